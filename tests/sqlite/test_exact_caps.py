"""Caps on rows are exact: over several databases, in and out of transactions, whatever dies meanwhile."""

import asyncio
import contextlib
import json
import random
from collections.abc import Iterator

import pytest
from composition import Composition
from load import Load, Outcome, Request
from row_writers import RowWriters, create_table, problems, stored_rows
from shard_operator import Operator
from tenant import Tenant
from tenant_database import TenantDatabase

_WRITERS = 32
_DATABASES = 4
_CAP = 1_000
_ROWS_MAX = 40
#: So slow that databases move before and after no unit is left.
_MOVES, _PACE_S = 3, 0.15


@pytest.fixture
def databases(tenant: Tenant) -> Iterator[list[TenantDatabase]]:
    with contextlib.ExitStack() as held:
        made = [TenantDatabase(tenant, f"DB{number}") for number in range(_DATABASES)]
        for database in made:
            held.callback(database.close)
            database.query(create_table())
        yield made


@pytest.mark.proves("CAP-045")
@pytest.mark.seeds(short=1, full=20)
async def test_32_writers_over_several_databases_stop_at_exactly_the_cap(
    databases: list[TenantDatabase], tenant: Tenant, seed: int, rng: random.Random
) -> None:
    tenant.put_cap("sqlite_rows_written", _CAP)
    load = Load(tenant.url, tenant.token, rng)
    await load.run(RowWriters(databases, rng, rows_max=1), connections=_WRITERS)
    assert load.done == _CAP
    assert load.early_refusals() == []
    assert stored_rows(databases).total() == _CAP
    tenant.wait_until_metered("sqlite_rows_written", _CAP)
    assert tenant.in_breakdown("sqlite_rows_written") == _CAP


@pytest.mark.seeds(short=1, full=10)
async def test_32_writers_stop_at_exactly_the_cap_while_their_databases_move_to_and_fro(
    composition: Composition, databases: list[TenantDatabase], tenant: Tenant, seed: int, rng: random.Random
) -> None:
    tenant.put_cap("sqlite_rows_written", _CAP)
    load, operator = Load(tenant.url, tenant.token, rng), Operator(tenant.url, composition.token)
    listed = tenant.request("GET", f"/v1/services/{tenant.service}/resources").json()["sqliteDatabases"]
    moved = 0

    def enough() -> bool:
        return moved >= _MOVES and len(load.of(Outcome.REFUSED)) >= 3 * _WRITERS

    writers = RowWriters(databases, rng, rows_max=1)
    traffic = asyncio.create_task(load.run(writers, connections=_WRITERS, enough=enough, pace_s=_PACE_S))
    while not traffic.done():
        database_id = rng.choice(listed)["id"]
        here = operator.shard_of(database_id)
        await operator.moved(database_id, next(shard for shard in composition.shards if shard != here))
        moved += 1
    await traffic
    operator.close()
    assert load.done == _CAP
    assert load.early_refusals() == load.of(Outcome.NOT_DONE) == load.of(Outcome.UNKNOWN) == []
    assert stored_rows(databases).total() == _CAP
    tenant.wait_until_metered("sqlite_rows_written", _CAP)
    assert tenant.in_breakdown("sqlite_rows_written") == _CAP


@pytest.mark.seeds(short=1, full=20)
async def test_a_request_that_crosses_the_cap_leaves_nothing_behind_and_takes_nothing_from_others(
    databases: list[TenantDatabase], tenant: Tenant, seed: int, rng: random.Random
) -> None:
    tenant.put_cap("sqlite_rows_written", _CAP)
    load = Load(tenant.url, tenant.token, rng)
    writers = RowWriters(databases, rng, _ROWS_MAX)
    await load.run(writers, connections=_WRITERS)
    assert _CAP - _ROWS_MAX < load.done <= _CAP
    # One that wants more than is left lets the others have it: nobody is told to come back.
    assert load.of(Outcome.NOT_DONE) == []
    writers.rows_max = 1
    await load.run(writers, connections=_WRITERS)
    assert load.done == _CAP
    assert load.early_refusals() == []
    stored = stored_rows(databases)
    assert stored.total() == _CAP
    assert problems(load, stored) == []
    tenant.wait_until_metered("sqlite_rows_written", _CAP)


@pytest.mark.proves("CAP-044")
@pytest.mark.seeds(short=1, full=10)
async def test_32_readers_over_several_databases_stop_at_exactly_the_cap(
    databases: list[TenantDatabase], tenant: Tenant, seed: int, rng: random.Random
) -> None:
    for database in databases:
        database.query("INSERT INTO t (name, row) SELECT 'r', value FROM json_each(?)", [json.dumps(list(range(500)))])
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
    load, writers = Load(tenant.url, tenant.token, rng), RowWriters(databases, rng, _ROWS_MAX)
    traffic = asyncio.create_task(load.run(writers, connections=_WRITERS))
    for _ in range(rng.randint(1, 3)):
        await _until_done(load, load.done + rng.randint(1, _CAP // 4), traffic)
        shard = rng.choice(composition.shards)
        composition.kill(shard)
        await asyncio.sleep(rng.random() / 2)
        composition.start(shard)
    await traffic
    composition.wait_until_ready()
    writers.rows_max = 1
    await load.run(writers, connections=_WRITERS)
    stored = stored_rows(databases)
    assert problems(load, stored) == []
    assert stored.total() == _CAP
    assert load.early_refusals() == []
    tenant.wait_until_metered("sqlite_rows_written", _CAP)


@pytest.mark.seeds(short=1, full=10)
async def test_what_is_metered_is_what_was_written_whatever_dies(
    composition: Composition, databases: list[TenantDatabase], tenant: Tenant, seed: int, rng: random.Random
) -> None:
    load, deaths = Load(tenant.url, tenant.token, rng), 4
    traffic = asyncio.create_task(
        load.run(RowWriters(databases, rng, _ROWS_MAX), connections=_WRITERS, enough=lambda: deaths == 0)
    )
    while deaths:
        await _until_done(load, load.done + rng.randint(500, 2_000), traffic)
        if deaths == 2:
            composition.wipe_nats()
        else:
            victim = rng.choice((*composition.shards, "metering", "gateway"))
            composition.kill(victim)
            composition.start(victim)
        deaths -= 1
    await traffic
    composition.wait_until_ready()
    stored = stored_rows(databases)
    assert problems(load, stored) == []
    tenant.wait_until_metered("sqlite_rows_written", stored.total())
    assert tenant.in_breakdown("sqlite_rows_written") == stored.total()


async def _until_done(load: Load, units: int, traffic: "asyncio.Task[None]") -> None:
    while load.done < units and not traffic.done():  # noqa: ASYNC110 -- the load tells nobody
        await asyncio.sleep(0.002)
