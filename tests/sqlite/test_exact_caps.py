"""Caps on rows are exact: over several databases, in and out of transactions, whatever dies meanwhile."""

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import Iterator
from itertools import count

import pytest
from composition import Composition
from load import Load, Outcome, Request
from tenant import Tenant
from tenant_database import TenantDatabase

_WRITERS = 32
_DATABASES = 4
_CAP = 1_000
_ROWS_MAX = 40
_CREATE = "CREATE TABLE t (name TEXT NOT NULL, row INTEGER NOT NULL)"


@pytest.fixture
def databases(tenant: Tenant) -> Iterator[list[TenantDatabase]]:
    with contextlib.ExitStack() as held:
        made = [TenantDatabase(tenant, f"DB{number}") for number in range(_DATABASES)]
        for database in made:
            held.callback(database.close)
            database.query(_CREATE)
        yield made


class _Writers:
    """Requests that write rows which name them, each in any of the databases, in any form a write has."""

    def __init__(self, databases: list[TenantDatabase], rng: random.Random, rows_max: int) -> None:
        self._databases = databases
        self._rng = rng
        #: Of one request.
        self.rows_max = rows_max
        self._numbers = count()

    def __call__(self) -> Request:
        rng, name = self._rng, f"w{next(self._numbers)}"
        units = rng.choice((1, 1, 1, rng.randint(1, self.rows_max)))
        row = {"sql": "INSERT INTO t VALUES (?, 1)", "params": [name]}
        if units == 1:
            body = row
        elif rng.random() < 0.5:
            body = {"statements": [row] * units}
        else:
            rows = json.dumps(list(range(units)))
            body = {"sql": "INSERT INTO t SELECT ?, value FROM json_each(?)", "params": [name, rows]}
        return Request("POST", rng.choice(self._databases).path, body, units, name)


def _stored(databases: list[TenantDatabase]) -> Counter[str]:
    """Rows by the request that wrote them."""
    found: Counter[str] = Counter()
    for database in databases:
        found.update(dict(database.rows("SELECT name, count(*) FROM t GROUP BY name")))
    return found


def _check_whole(load: Load, stored: Counter[str]) -> None:
    """What was acknowledged is there, what was refused is not, and no request did a part of its rows."""
    wanted = {attempt.request.name: attempt.request.units for attempt in load.attempts}
    assert {name: rows for name, rows in stored.items() if wanted[name] != rows} == {}
    assert {attempt.request.name for attempt in load.of(Outcome.DONE)} <= stored.keys()
    undone = {attempt.request.name for attempt in (*load.of(Outcome.REFUSED), *load.of(Outcome.NOT_DONE))}
    assert stored.keys().isdisjoint(undone)


@pytest.mark.proves("CAP-045")
@pytest.mark.seeds(short=1, full=20)
async def test_32_writers_over_several_databases_stop_at_exactly_the_cap(
    databases: list[TenantDatabase], tenant: Tenant, seed: int, rng: random.Random
) -> None:
    tenant.put_cap("sqlite_rows_written", _CAP)
    load = Load(tenant.url, tenant.token, rng)
    await load.run(_Writers(databases, rng, rows_max=1), connections=_WRITERS)
    assert load.done == _CAP
    assert load.early_refusals() == []
    assert _stored(databases).total() == _CAP
    tenant.wait_until_metered("sqlite_rows_written", _CAP)
    assert tenant.in_breakdown("sqlite_rows_written") == _CAP


@pytest.mark.seeds(short=1, full=20)
async def test_a_request_that_crosses_the_cap_leaves_nothing_behind_and_takes_nothing_from_others(
    databases: list[TenantDatabase], tenant: Tenant, seed: int, rng: random.Random
) -> None:
    tenant.put_cap("sqlite_rows_written", _CAP)
    load = Load(tenant.url, tenant.token, rng)
    writers = _Writers(databases, rng, _ROWS_MAX)
    await load.run(writers, connections=_WRITERS)
    assert _CAP - _ROWS_MAX < load.done <= _CAP
    # One that wants more than is left lets the others have it: nobody is told to come back.
    assert load.of(Outcome.NOT_DONE) == []
    writers.rows_max = 1
    await load.run(writers, connections=_WRITERS)
    assert load.done == _CAP
    assert load.early_refusals() == []
    stored = _stored(databases)
    assert stored.total() == _CAP
    _check_whole(load, stored)
    tenant.wait_until_metered("sqlite_rows_written", _CAP)


@pytest.mark.proves("CAP-044")
@pytest.mark.seeds(short=1, full=10)
async def test_32_readers_over_several_databases_stop_at_exactly_the_cap(
    databases: list[TenantDatabase], tenant: Tenant, seed: int, rng: random.Random
) -> None:
    for database in databases:
        database.query("INSERT INTO t SELECT 'r', value FROM json_each(?)", [json.dumps(list(range(500)))])
    if not databases[0].query("SELECT 1")["rowsReadExact"]:
        pytest.skip("this engine does not count rows read exactly, and refuses the cap: make native")
    read = tenant.settled("sqlite_rows_read")
    tenant.put_cap("sqlite_rows_read", read + _CAP)

    def request() -> Request:
        body = {"sql": "SELECT row FROM t WHERE rowid = ?", "params": [rng.randint(1, 500)]}
        return Request("POST", rng.choice(databases).path, body)

    load = Load(tenant.url, tenant.token, rng)
    await load.run(request, connections=_WRITERS)
    assert load.done == _CAP
    assert load.early_refusals() == []
    tenant.wait_until_metered("sqlite_rows_read", read + _CAP)


@pytest.mark.seeds(short=1, full=20)
async def test_killing_sqlite_in_mid_traffic_leaves_writes_exact(
    composition: Composition, databases: list[TenantDatabase], tenant: Tenant, seed: int, rng: random.Random
) -> None:
    tenant.put_cap("sqlite_rows_written", _CAP)
    load, writers = Load(tenant.url, tenant.token, rng), _Writers(databases, rng, _ROWS_MAX)
    traffic = asyncio.create_task(load.run(writers, connections=_WRITERS))
    for _ in range(rng.randint(1, 3)):
        await _until_done(load, load.done + rng.randint(1, _CAP // 4), traffic)
        composition.kill("sqlite")
        await asyncio.sleep(rng.random() / 2)
        composition.start("sqlite")
    await traffic
    composition.wait_until_ready()
    writers.rows_max = 1
    await load.run(writers, connections=_WRITERS)
    stored = _stored(databases)
    _check_whole(load, stored)
    assert stored.total() == _CAP
    assert load.early_refusals() == []
    tenant.wait_until_metered("sqlite_rows_written", _CAP)


@pytest.mark.seeds(short=1, full=10)
async def test_what_is_metered_is_what_was_written_whatever_dies(
    composition: Composition, databases: list[TenantDatabase], tenant: Tenant, seed: int, rng: random.Random
) -> None:
    load, deaths = Load(tenant.url, tenant.token, rng), 4
    traffic = asyncio.create_task(
        load.run(_Writers(databases, rng, _ROWS_MAX), connections=_WRITERS, enough=lambda: deaths == 0)
    )
    while deaths:
        await _until_done(load, load.done + rng.randint(500, 2_000), traffic)
        if deaths == 2:
            composition.wipe_nats()
        else:
            victim = rng.choice(("sqlite", "sqlite", "metering", "gateway"))
            composition.kill(victim)
            composition.start(victim)
        deaths -= 1
    await traffic
    composition.wait_until_ready()
    stored = _stored(databases)
    _check_whole(load, stored)
    tenant.wait_until_metered("sqlite_rows_written", stored.total())
    assert tenant.in_breakdown("sqlite_rows_written") == stored.total()


async def _until_done(load: Load, units: int, traffic: "asyncio.Task[None]") -> None:
    while load.done < units and not traffic.done():  # noqa: ASYNC110 -- the load tells nobody
        await asyncio.sleep(0.002)
