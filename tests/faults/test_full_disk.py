"""A full disk: writes say so, all else goes on, nothing is damaged, and room that comes back is used."""

import random
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from load import Load, Outcome, Request
from product import Product
from small_disk import fill, mounted
from tenant import Tenant

_DISK_MIB = 80


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with little room."""
    with mounted(tmp_path / "disk", _DISK_MIB) as disk:
        yield disk


def _is_sqlite(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(16) == b"SQLite format 3\0"


async def test_a_full_disk_stops_writes_alone(small_disk: Path, rng: random.Random) -> None:
    with Product.launched(small_disk) as product:
        tenant = Tenant.of(product.url, product.token)
        names = [f"k{number}" for number in range(300)]
        tenant.put_many(names, value="v" * 1000)
        big = {"value": "w" * 3_000_000}
        assert tenant.request("PUT", f"{tenant.kv}/values/big", json=big).is_success
        tenant.wait_until_metered("kv_writes", 301)
        ballast = fill(small_disk)
        acknowledged: set[str] = set()
        load = Load(product.url, product.token, rng)

        def put() -> Request:
            key = f"new{len(load.attempts)}-{rng.randrange(10**9)}"
            return Request("PUT", f"{tenant.kv}/values/{key}", {"value": "v" * rng.randrange(20_000)}, name=key)

        await load.run(put, connections=16, enough=lambda: sum(a.status == 507 for a in load.attempts) >= 50)
        acknowledged |= {attempt.request.name for attempt in load.of(Outcome.DONE)}
        assert {a.code for a in load.attempts if a.status == 507} == {"storage_full"}
        over = tenant.request("PUT", f"{tenant.kv}/values/big", json={"value": "x" * 3_000_000})
        assert (over.status_code, over.json()["code"]) == (507, "storage_full")

        # Reads, lists, deletes and usage go on, and are metered.
        assert all(tenant.request("GET", f"{tenant.kv}/values/{name}").json()["value"] for name in names[:50])
        assert tenant.request("GET", f"{tenant.kv}/values/big").json()["value"] == big["value"]
        assert acknowledged <= tenant.keys().keys()
        for name in names[:100]:
            assert tenant.request("DELETE", f"{tenant.kv}/values/{name}").is_success
        assert tenant.usage()["usage"]["meters"]["day"]["kv_writes"] >= 301
        assert set(product.processes()) == {"gateway", "control", "kv", "sqlite", "metering", "nats-server"}

        ballast.unlink()
        await load.run(put, connections=16, enough=lambda: len(load.of(Outcome.DONE)) >= len(acknowledged) + 100)
        kept = tenant.keys().keys()
        assert {attempt.request.name for attempt in load.of(Outcome.DONE)} <= kept
        assert kept.isdisjoint(names[:100]) and set(names[100:]) <= kept
        written = len(kept) + 100
        tenant.wait_until_metered("kv_writes", written)
        tenant.wait_until_metered("kv_deletes", 100)
        assert product.stop() == 0
        databases = [file for file in product.data.rglob("*") if file.is_file() and _is_sqlite(file)]
        assert len(databases) >= 3
        for file in databases:
            checked = apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READONLY).execute("PRAGMA integrity_check")
            assert list(checked) == [("ok",)], file


async def test_a_full_disk_does_not_stop_a_start(small_disk: Path) -> None:
    with Product.launched(small_disk) as product:
        tenant = Tenant.of(product.url, product.token)
        tenant.put_many([f"k{number}" for number in range(100)])
        ballast = fill(small_disk)
        assert product.stop() == 0
        product.start()
        product.wait_until_ready()
        assert tenant.request("GET", f"{tenant.kv}/values/k7").json()["value"] == "v"
        assert tenant.request("DELETE", f"{tenant.kv}/values/k7").json()["deleted"] is True
        assert tenant.request("GET", "/v1/usage").is_success
        ballast.unlink()
        tenant.wait_until_metered("kv_deletes", 1)
        tenant.wait_until_metered("kv_writes", 100)
