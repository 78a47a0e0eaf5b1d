"""Databases that move to another shard while they are used: no request fails, and nothing is lost or there twice."""

import asyncio
import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
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
#: More than the history's moments are apart.
_MOMENT_S = 0.1
_MOVES = 4
_BATCHES, _COUNT = 4, 1_000
_NUMBERS = json.dumps(list(range(_COUNT)))


@pytest.fixture
def operator(composition: Composition) -> Iterator[Operator]:
    made = Operator(composition.url, composition.token)
    yield made
    made.close()


@pytest.fixture
def database(tenant: Tenant) -> Iterator[TenantDatabase]:
    made = TenantDatabase(tenant)
    made.query(create_table(pad_bytes=100))
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
    here, counted = operator.shard_of(database_id), []
    for _ in range(_MOVES):
        here = next(shard for shard in composition.shards if shard != here)
        await operator.moved(database_id, here)
        counted.append(await asyncio.to_thread(_count_at_a_moment, database))
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
    # Between a move and the first base at the new shard, a moment is rebuilt from the end of the generation before.
    assert any(composition.folder(here).glob(f"archive/{database_id}/history/*/*/base-*-0-"))
    for least, at_ms, most in counted:
        database.put_back(timestamp=at_ms)
        assert database.rows("PRAGMA integrity_check") == [["ok"]]
        assert least <= database.rows("SELECT count(*) FROM t")[0][0] <= most


def _count_at_a_moment(database: TenantDatabase) -> tuple[int, int, int]:
    """A moment, and how many rows there were at least and at most."""
    (least,) = database.rows("SELECT count(*) FROM t")[0]
    time.sleep(_MOMENT_S)
    at_ms = int(time.time() * 1_000)
    (most,) = database.rows("SELECT count(*) FROM t")[0]
    return least, at_ms, most


async def test_backups_and_history_move_with_their_database(
    operator: Operator, database: TenantDatabase, tenant: Tenant, composition: Composition
) -> None:
    database_id, moments = _id(tenant), {}
    here = operator.shard_of(database_id)
    there = next(shard for shard in composition.shards if shard != here)

    def write(name: str) -> None:
        database.query("INSERT INTO t (name, row) VALUES (?, 1)", [name])
        time.sleep(_MOMENT_S)
        moments[name] = int(time.time() * 1000)
        time.sleep(_MOMENT_S)

    _until_based(composition.folder(here), database_id)
    write("backed up")
    backup = database.backed_up()
    write("replaced")
    restore = database.put_back(backupId=backup["id"])
    write("before")
    await operator.moved(database_id, there)
    write("after")
    listed = database.listed()
    assert {one["id"]: one["status"] for one in listed["backups"]} == dict.fromkeys(
        (backup["id"], restore["safetyBackupId"]), "ready"
    )
    assert [one["id"] for one in listed["restores"]] == [restore["id"]]
    # Each shard has an archive of its own, in its folder.
    _until_gone(composition.folder(here), database_id)
    names = {
        "backed up": ["backed up"],
        "replaced": ["backed up", "replaced"],
        "before": ["backed up", "before"],
        "after": ["backed up", "before", "after"],
    }
    database.put_back(backupId=restore["safetyBackupId"])
    assert _names(database) == names["replaced"]
    for name, at_ms in moments.items():
        database.put_back(timestamp=at_ms)
        assert _names(database) == names[name], name
    database.put_back(backupId=backup["id"])
    assert _names(database) == names["backed up"]
    assert tenant.request("DELETE", f"{database.base}/databases/DB").is_success
    _until_gone(composition.folder(there), database_id)


def _names(database: TenantDatabase) -> list[str]:
    return [name for (name,) in database.rows("SELECT name FROM t ORDER BY rowid")]


def _until_based(folder: Path, database_id: str) -> None:
    """Until the moments of a new database can be put back: from its first base on."""
    deadline = time.monotonic() + _MOVED_WITHIN_S
    while not any(folder.glob(f"archive/{database_id}/history/000001/*/base-*")):
        assert time.monotonic() < deadline, "no base"
        time.sleep(_POLL_S)


def _until_gone(folder: Path, database_id: str) -> None:
    """Until a shard has nothing of a database."""
    deadline = time.monotonic() + _MOVED_WITHIN_S
    # Unlike a glob, a walk passes over folders that are removed meanwhile.
    while found := [name for _, folders, files in os.walk(folder) for name in folders + files if database_id in name]:
        assert time.monotonic() < deadline, found
        time.sleep(_POLL_S)


_STEPS = {
    "its objects are being sent": lambda here, there, name: (there / "archive" / name).exists(),
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
    backup = database.backed_up()
    for _ in range(_BATCHES):
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
    assert stored.pop("before") == _BATCHES * _COUNT
    assert problems(load, stored) == []
    assert database.rows("PRAGMA integrity_check") == [["ok"]]
    assert _id(tenant) == database_id
    tenant.wait_until_metered("sqlite_rows_written", stored.total() + _BATCHES * _COUNT)
    at = _check_at_one(composition, database_id)
    assert database.listed()["backups"] == [backup]
    kept = (at / "archive" / database_id / "backups").iterdir()
    assert [path.stat().st_size for path in kept] == [backup["sizeBytes"]]


async def test_a_move_that_is_called_off_leaves_the_database_and_its_backups_where_they_were(
    operator: Operator, database: TenantDatabase, tenant: Tenant, composition: Composition
) -> None:
    backup = database.backed_up()
    database.query("INSERT INTO t SELECT 'before', value, randomblob(8000) FROM json_each(?)", [_NUMBERS])
    database_id = _id(tenant)
    here = operator.shard_of(database_id)
    there = next(shard for shard in composition.shards if shard != here)
    assert operator.move(database_id, there).is_success
    coming, deadline = composition.folder(there) / "moving" / f"{database_id}.arriving", time.monotonic() + 30
    while not coming.exists():
        assert time.monotonic() < deadline, "the move does not begin"
        await asyncio.sleep(0.0005)
    assert operator.move(database_id, here).is_success
    database.query("INSERT INTO t (name, row) VALUES ('after', 1)")
    assert _check_at_one(composition, database_id) == composition.folder(operator.shard_of(database_id))
    assert database.rows("SELECT name, count(*) FROM t GROUP BY name") == [["after", 1], ["before", _COUNT]]
    assert database.listed()["backups"] == [backup]


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


def _check_at_one(composition: Composition, database_id: str) -> Path:
    """In the end one folder has the database's file, and nothing is left of the move; that folder."""
    deadline = time.monotonic() + _MOVED_WITHIN_S
    while True:
        folders = list(map(composition.folder, composition.shards))
        files = [path for folder in folders for path in folder.glob(f"databases/*/{database_id}/*.sqlite")]
        others = [
            path
            for folder in folders
            for place in ("moving", "archive/coming")
            for path in folder.glob(f"{place}/{database_id}*")
        ]
        archived = [path for folder in folders for path in folder.glob(f"archive/{database_id}")]
        if len(files) == len(archived) == 1 and not others:
            return archived[0].parent.parent
        assert files and archived and time.monotonic() < deadline, (files, archived, others)
        time.sleep(_POLL_S)
