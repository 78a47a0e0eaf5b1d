"""What containers alone can show: restart policies, volumes that are lost, names that move to other addresses."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count

import pytest
from composed import Composed
from load import Load, Outcome, Request
from row_writers import RowWriters, create_table, problems, stored_rows
from shard_operator import Operator
from tenant import Tenant
from tenant_database import TenantDatabase

pytestmark = pytest.mark.soak

_CONTAINERS = (
    "gateway",
    "control",
    "metering",
    "kv",
    "kv-2",
    "sqlite",
    "sqlite-2",
    "control-postgres",
    "metering-postgres",
    "redis",
    "nats",
    "archive",
)
_CONNECTIONS = 8
_PACE_S = 0.02
#: Acknowledged before and after each fault.
_UNITS = 200
_DONE_WITHIN_S = 60.0
_MOVES = 6
#: What is acknowledged so long before a shard's volume is lost is in the archive.
_SHIPPED_WITHIN_S = 1.0


class Writers:
    """Half of the requests write rows, half of them keys; each is found again by its name."""

    def __init__(self, tenant: Tenant, databases: list[TenantDatabase], rng: random.Random) -> None:
        self._tenant = tenant
        self._rows = RowWriters(databases, rng, rows_max=20)
        self._rng = rng
        self._numbers = count()

    def __call__(self) -> Request:
        if self._rng.random() < 0.5:
            return self._rows()
        name = f"k{next(self._numbers)}"
        return Request("PUT", f"{self._tenant.kv}/values/{name}", {"value": name}, name=name)


class Traffic:
    """Writes of one tenant to its namespace and to databases on both shards, judged in the end."""

    def __init__(self, tenant: Tenant, databases: list[TenantDatabase], rng: random.Random) -> None:
        self.tenant = tenant
        self.databases = databases
        self.load = Load(tenant.url, tenant.token, rng)
        self._writers = Writers(tenant, databases, rng)

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """From the first units that are done until the context ends."""
        ended = asyncio.Event()
        run = self.load.run(self._writers, connections=_CONNECTIONS, enough=ended.is_set, pace_s=_PACE_S, within_s=600)
        task = asyncio.create_task(run)
        try:
            await self.more_done()
            yield
        finally:
            ended.set()
            await task

    async def more_done(self) -> None:
        """Returns when some more units are done."""
        enough, deadline = self.load.done + _UNITS, time.monotonic() + _DONE_WITHIN_S
        while self.load.done < enough:
            assert time.monotonic() < deadline, f"{enough - self.load.done} of {_UNITS} units are not done"
            await asyncio.sleep(0.01)

    def stored(self) -> Counter[str]:
        """What is there, by the request that wrote it."""
        return stored_rows(self.databases) + Counter(self.tenant.keys().keys())

    def check(self) -> None:
        """Nothing acknowledged is missing, nothing refused is there, and usage is what was done."""
        rows, keys = stored_rows(self.databases), self.tenant.keys()
        assert problems(self.load, rows + Counter(keys.keys())) == []
        for database in self.databases:
            assert database.rows("PRAGMA integrity_check") == [["ok"]]
        self.tenant.wait_until_metered("sqlite_rows_written", rows.total())
        self.tenant.wait_until_metered("kv_writes", len(keys))


@pytest.fixture
def traffic(composed: Composed, tenant: Tenant, operator: Operator, rng: random.Random) -> Iterator[Traffic]:
    """To two databases a shard."""
    while len(set(operator.databases().values())) > 1:
        TenantDatabase.made(composed.url, composed.token).close()
    databases = [TenantDatabase(tenant, f"DB{number}") for number in range(4)]
    assert len(set(operator.databases().values())) == 1
    for database in databases:
        database.query(create_table(pad_bytes=500))
    yield Traffic(tenant, databases, rng)
    for database in databases:
        database.close()


def test_every_container_is_crashed_here(composed: Composed) -> None:
    assert composed.names() == sorted(_CONTAINERS)


@pytest.mark.parametrize("name", _CONTAINERS)
async def test_a_container_that_crashes_is_back_by_itself_with_all_it_acknowledged(
    composed: Composed, traffic: Traffic, name: str
) -> None:
    async with traffic.flowing():
        await asyncio.to_thread(composed.crash, name)
        await asyncio.to_thread(composed.wait_until_ready)
        await traffic.more_done()
    traffic.check()


async def test_a_database_moves_between_containers_and_no_request_fails(traffic: Traffic, operator: Operator) -> None:
    tenant, database = traffic.tenant, traffic.databases[0]
    listed = tenant.request("GET", f"/v1/services/{tenant.service}/resources").json()["sqliteDatabases"]
    database_id = next(one["id"] for one in listed if one["name"] == database.name)
    backup = database.backed_up()
    here = operator.shard_of(database_id)
    async with traffic.flowing():
        for _ in range(_MOVES):
            here = next(shard for shard in operator.databases() if shard != here)
            await operator.moved(database_id, here)
            await traffic.more_done()
    assert traffic.load.of(Outcome.NOT_DONE) == traffic.load.of(Outcome.UNKNOWN) == []
    traffic.check()
    assert database.listed()["backups"] == [backup]
    database.put_back(backupId=backup["id"])
    assert database.rows("SELECT count(*) FROM t") == [[0]]


async def test_a_shard_whose_volume_is_lost_is_rebuilt_from_the_archive(composed: Composed, traffic: Traffic) -> None:
    now = asyncio.get_running_loop().time
    backups = [database.backed_up() for database in traffic.databases]
    async with traffic.flowing():
        lost_at = now()
        await asyncio.to_thread(composed.lose, "sqlite-2")
        gone_at = now()
        await asyncio.to_thread(composed.compose, "run", "--rm", "-T", "sqlite-2", "rebuild")
        await asyncio.to_thread(composed.up)
        await traffic.more_done()
    stored = traffic.stored()
    late = [one for one in traffic.load.attempts if lost_at - _SHIPPED_WITHIN_S < one.ended < gone_at]
    names = {attempt.request.name for attempt in late}
    assert [problem for problem in problems(traffic.load, stored) if problem.split()[0] not in names] == []
    for database, backup in zip(traffic.databases, backups, strict=True):
        assert database.rows("PRAGMA integrity_check") == [["ok"]]
        assert [one["id"] for one in database.listed()["backups"]] == [backup["id"]]
        database.put_back(backupId=backup["id"])
        assert database.rows("SELECT count(*) FROM t") == [[0]]


async def test_writes_go_on_while_the_archive_is_away(composed: Composed, traffic: Traffic) -> None:
    composed.compose("stop", "archive")
    async with traffic.flowing():
        await traffic.more_done()
        await asyncio.to_thread(composed.up)
        await traffic.more_done()
    assert traffic.load.of(Outcome.NOT_DONE) == traffic.load.of(Outcome.UNKNOWN) == []
    traffic.check()


@pytest.mark.parametrize("name", ["control", "metering", "kv", "sqlite"])
async def test_a_container_that_comes_back_at_another_address_is_found(
    composed: Composed, traffic: Traffic, name: str
) -> None:
    async with traffic.flowing():
        await asyncio.to_thread(composed.readdress, name)
        await traffic.more_done()
    traffic.check()


async def test_after_all_containers_are_made_anew_what_was_written_and_metered_is_there(
    composed: Composed, traffic: Traffic
) -> None:
    async with traffic.flowing():
        await traffic.more_done()
    before = traffic.stored()
    composed.compose("down")
    composed.up()
    assert traffic.stored() == before
    traffic.check()
