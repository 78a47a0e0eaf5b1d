"""A full disk refuses what needs room, and nothing else; what was acknowledged stays, and usage is what was done."""

import random
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from load import Load, Outcome
from product import Product
from row_writers import RowWriters, create_table, problems, stored_rows
from small_disk import fill, mounted
from tenant import Tenant
from tenant_database import TenantDatabase

_DISK_MIB = 80
_CONNECTIONS = 16


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", _DISK_MIB) as disk:
        yield disk


async def test_a_full_disk_refuses_writes_alone(small_disk: Path, engine: str, rng: random.Random) -> None:
    with Product.launched(small_disk, TOVUK_SQLITE_ENGINE=engine) as product:
        tenant = Tenant.of(product.url, product.token)
        databases = [TenantDatabase(tenant, f"DB{number}") for number in range(3)]
        for database in databases:
            database.query(create_table(pad_bytes=2_000))
        spare = TenantDatabase(tenant, "SPARE")
        spare.query("CREATE TABLE t (a)")
        load, writers = Load(product.url, product.token, rng), RowWriters(databases, rng, rows_max=60)
        await load.run(writers, connections=_CONNECTIONS, enough=lambda: load.done >= 500)
        ballast = fill(small_disk)

        def refused() -> int:
            return sum(attempt.status == 507 for attempt in load.attempts)

        await load.run(writers, connections=_CONNECTIONS, enough=lambda: refused() >= 50)
        assert {attempt.code for attempt in load.attempts if attempt.status == 507} == {"storage_full"}
        stored = stored_rows(databases)
        assert problems(load, stored) == []
        assert all(database.rows("PRAGMA integrity_check") == [["ok"]] for database in databases)
        assert tenant.request("DELETE", f"{spare.base}/databases/SPARE").is_success
        assert tenant.usage()["usage"]["meters"]["day"]["sqlite_rows_written"] >= 0

        ballast.unlink()
        before = load.done
        await load.run(writers, connections=_CONNECTIONS, enough=lambda: load.done >= before + 500)
        stored = stored_rows(databases)
        assert problems(load, stored) == []
        assert len(load.of(Outcome.UNKNOWN)) < refused()
        tenant.wait_until_metered("sqlite_rows_written", stored.total())
        assert product.stop() == 0
        files = list(product.data.rglob("databases/*/*/*.sqlite"))
        assert len(files) >= len(databases)
        for file in files:
            assert apsw.Connection(str(file)).execute("PRAGMA integrity_check").get == "ok", file


async def test_a_service_starts_on_a_full_disk(small_disk: Path, engine: str) -> None:
    with Product.launched(small_disk, TOVUK_SQLITE_ENGINE=engine) as product:
        database = TenantDatabase(Tenant.of(product.url, product.token))
        database.query("CREATE TABLE t (a)")
        database.query("INSERT INTO t SELECT value FROM json_each('[1,2,3]')")
        ballast = fill(small_disk)
        assert product.stop() == 0
        product.start()
        product.wait_until_ready()
        assert database.rows("SELECT count(*) FROM t") == [[3]]
        ballast.unlink()
        database.query("INSERT INTO t VALUES (4)")
        database.tenant.wait_until_metered("sqlite_rows_written", 4)
