"""Databases that move to another shard while they are used: no request fails, and nothing is lost or there twice."""

import asyncio
import json
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
from composition import Composition
from load import Load, Outcome
from row_writers import RowWriters, create_table, problems, stored_rows
from shard_operator import Operator
from tenant import Tenant
from tenant_database import TenantDatabase

_MOVED_WITHIN_S = 30.0
_POLL_S = 0.05
_MOVES = 4
_COUNT = 1_000
_NUMBERS = json.dumps(list(range(_COUNT)))


@pytest.fixture
def operator(composition: Composition) -> Iterator[Operator]:
    made = Operator(composition.url, composition.token)
    yield made
    made.close()


@pytest.fixture
def database(tenant: Tenant) -> Iterator[TenantDatabase]:
    made = TenantDatabase(tenant)
    made.query(create_table(pad_bytes=500))
    yield made
    made.close()


def _id(tenant: Tenant) -> str:
    listed: Any = tenant.request("GET", f"/v1/services/{tenant.service}/resources").json()["sqliteDatabases"]
    (found,) = listed
    return str(found["id"])


@pytest.mark.seeds(short=1, full=10)
async def test_a_database_moves_to_and_fro_under_load_and_no_request_fails(
    operator: Operator,
    database: TenantDatabase,
    tenant: Tenant,
    composition: Composition,
    seed: int,
    rng: random.Random,
) -> None:
    database_id, ended = _id(tenant), asyncio.Event()
    load, writers = Load(tenant.url, tenant.token, rng), RowWriters([database], rng, rows_max=60)
    traffic = asyncio.create_task(load.run(writers, connections=16, enough=ended.is_set))
    here = operator.shard_of(database_id)
    for _ in range(_MOVES):
        here = next(shard for shard in composition.shards if shard != here)
        await operator.moved(database_id, here)
        await asyncio.sleep(rng.random() / 2)
    ended.set()
    await traffic
    assert load.of(Outcome.NOT_DONE) == load.of(Outcome.UNKNOWN) == []
    stored = stored_rows([database])
    assert problems(load, stored) == []
    assert database.rows("PRAGMA integrity_check") == [["ok"]]
    assert _id(tenant) == database_id
    tenant.wait_until_metered("sqlite_rows_written", stored.total())
    assert tenant.in_breakdown("sqlite_rows_written") == stored.total()


_STEPS = {
    "a copy is made": lambda here, there, name: (here / "moving" / f"{name}.leaving").exists(),
    "it is being sent": lambda here, there, name: (there / "moving" / f"{name}.arriving").exists(),
    "it is complete there": lambda here, there, name: any(there.glob(f"databases/*/{name}/*.sqlite")),
    "it has left": lambda here, there, name: not any(here.glob(f"databases/*/{name}/*.sqlite")),
}


@pytest.mark.parametrize("victim", ["here", "there"])
@pytest.mark.parametrize("step", _STEPS)
async def test_a_kill_at_any_step_of_a_move_leaves_the_database_at_exactly_one_shard(
    operator: Operator,
    database: TenantDatabase,
    tenant: Tenant,
    composition: Composition,
    step: str,
    victim: str,
    rng: random.Random,
) -> None:
    for _ in range(8):
        database.query("INSERT INTO t SELECT 'before', value, randomblob(2000) FROM json_each(?)", [_NUMBERS])
    database_id, ended = _id(tenant), asyncio.Event()
    load, writers = Load(tenant.url, tenant.token, rng), RowWriters([database], rng, rows_max=60)
    here = operator.shard_of(database_id)
    there = next(shard for shard in composition.shards if shard != here)
    traffic = asyncio.create_task(load.run(writers, connections=4, enough=ended.is_set))
    assert operator.move(database_id, there).is_success
    reached, deadline = _STEPS[step], time.monotonic() + _MOVED_WITHIN_S
    while not reached(composition.folder(here), composition.folder(there), database_id):
        assert time.monotonic() < deadline, f"not reached: {step}"
        await asyncio.sleep(0.0005)
    killed = here if victim == "here" else there
    composition.kill(killed)
    composition.start(killed)
    await asyncio.sleep(1)
    ended.set()
    await traffic
    composition.wait_until_ready()
    stored = stored_rows([database])
    assert stored.pop("before") == 8 * _COUNT
    assert problems(load, stored) == []
    assert database.rows("PRAGMA integrity_check") == [["ok"]]
    assert _id(tenant) == database_id
    tenant.wait_until_metered("sqlite_rows_written", stored.total() + 8 * _COUNT)
    _check_at_one(composition, database_id)


@pytest.mark.seeds(short=3, full=30)
async def test_killing_a_shard_during_a_move_leaves_the_database_at_exactly_one(
    operator: Operator,
    database: TenantDatabase,
    tenant: Tenant,
    composition: Composition,
    seed: int,
    rng: random.Random,
) -> None:
    database_id, ended = _id(tenant), asyncio.Event()
    load, writers = Load(tenant.url, tenant.token, rng), RowWriters([database], rng, rows_max=60)
    traffic = asyncio.create_task(load.run(writers, connections=8, enough=ended.is_set))
    here = operator.shard_of(database_id)
    there = next(shard for shard in composition.shards if shard != here)
    assert operator.move(database_id, there).is_success
    await asyncio.sleep(rng.random() * 1.5)
    victim = rng.choice(composition.shards)
    composition.kill(victim)
    await asyncio.sleep(rng.random() / 2)
    composition.start(victim)
    await asyncio.sleep(1)
    ended.set()
    await traffic
    composition.wait_until_ready()
    stored = stored_rows([database])
    assert problems(load, stored) == []
    assert database.rows("PRAGMA integrity_check") == [["ok"]]
    # Both shards list their own, and the gateway asks both that are concerned.
    assert _id(tenant) == database_id
    tenant.wait_until_metered("sqlite_rows_written", stored.total())


def test_what_is_no_database_or_no_shard_does_not_move(operator: Operator, tenant: Tenant) -> None:
    database = TenantDatabase(tenant)
    assert operator.move(_id(tenant), "nowhere").json()["code"] == "shard_not_found"
    assert operator.move("sqlite_" + "0" * 20, "sqlite").json()["code"] == "sqlite_database_not_found"
    database.close()


def _check_at_one(composition: Composition, database_id: str) -> None:
    """In the end one folder has the database's file, and nothing else is left of the move."""
    deadline = time.monotonic() + _MOVED_WITHIN_S
    while True:
        found = [
            path
            for name in composition.shards
            for place in (f"databases/*/{database_id}/*.sqlite", f"moving/{database_id}.leaving")
            for path in composition.folder(name).glob(place)
        ]
        if len(found) == 1:
            return
        assert found and time.monotonic() < deadline, found
        time.sleep(_POLL_S)
