"""Memory is bounded: many large values at once, and nothing to do."""

import asyncio
import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from load import Answer, Client
from product import Product
from tenant import Tenant

_VALUE_BYTES = 25 * 1024 * 1024
_AT_ONCE = 16
_TOGETHER_MIB_MAX = 600

pytestmark = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="PSS is read from Linux' /proc")


@pytest.fixture
def disk_tovuk(tmp_path: Path) -> Iterator[Product]:
    with Product.launched(tmp_path) as product:
        yield product


def _pss_mib(product: Product) -> dict[str, float]:
    found = {}
    for name, pid in {**product.processes(), "launcher": product.launcher.pid}.items():
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        found[name] = next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
    return found


async def test_sixteen_values_of_25_mib_at_once_stay_within_600_mib(disk_tovuk: Product, rng: random.Random) -> None:
    tenant = Tenant.of(disk_tovuk.url, disk_tovuk.token)
    most: dict[str, float] = {}
    together_most = 0.0

    async def watch() -> None:
        nonlocal most, together_most
        while True:
            sizes = await asyncio.to_thread(_pss_mib, disk_tovuk)
            if sum(sizes.values()) > together_most:
                most, together_most = sizes, sum(sizes.values())
            await asyncio.sleep(0.05)

    def value(number: int) -> str:
        line = hashlib.sha256(f"{number}".encode()).hexdigest()
        return line * (_VALUE_BYTES // len(line))

    async def put(number: int) -> Answer:
        client = Client(tenant.url, tenant.token)
        while True:
            answer = await client.send("PUT", f"{tenant.kv}/values/big-{number}", {"value": value(number)})
            if answer.status != 503:
                client.close()
                return answer
            await asyncio.sleep(0.2)

    watching = asyncio.create_task(watch())
    answers = await asyncio.gather(*(put(number) for number in range(_AT_ONCE)))
    assert [answer.status for answer in answers] == [200] * _AT_ONCE, {a.body[:300] for a in answers if not a.ok}
    for number in rng.sample(range(_AT_ONCE), 4):
        read = await asyncio.to_thread(tenant.request, "GET", f"{tenant.kv}/values/big-{number}")
        assert read.json()["value"] == value(number)
    watching.cancel()
    assert together_most <= _TOGETHER_MIB_MAX, most
