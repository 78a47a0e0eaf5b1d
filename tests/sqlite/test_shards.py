"""Databases at several shards: one that dies takes nothing with it, one that is owned by another serves nothing."""

import asyncio
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from composition import Composition
from s3_server import S3Server
from shard_operator import Operator
from tenant import Tenant
from tenant_database import TenantDatabase

#: How long an ownership lasts where a test waits for its end.
_OWNED_S = 2
_SHORT = {"TOVUK_SQLITE_OWNERSHIP_SECONDS": str(_OWNED_S), "TOVUK_SQLITE_SHARD": "shard-1"}
_BACK_WITHIN_S = 20.0
_SHIPPED_WITHIN_S = 1.5
#: More than the history's moments are apart.
_MOMENT_S = 0.1
_POLL_S = 0.05


def _counts(composition: Composition) -> list[int]:
    answer = Tenant(composition.url, composition.token, "", "").request("GET", "/v1/operator/sqlite/shards")
    return [shard["databases"] for shard in answer.json()["shards"]]


@pytest.fixture
def databases(composition: Composition, tenant: Tenant) -> Iterator[list[TenantDatabase]]:
    """Four, two a shard: a new one is placed where the fewest are."""
    while len(set(_counts(composition))) > 1:
        TenantDatabase.made(composition.url, composition.token).close()
    made = [TenantDatabase(tenant, f"DB{number}") for number in range(4)]
    yield made
    for database in made:
        database.close()


def _names(tenant: Tenant) -> list[str]:
    answer = tenant.request("GET", f"/v1/services/{tenant.service}/resources")
    assert answer.is_success, answer.text
    return [database["name"] for database in answer.json()["sqliteDatabases"]]


def _answering(databases: list[TenantDatabase]) -> list[TenantDatabase]:
    """Those that answer; the others say that nothing was done."""
    answers = [(database, database.send("SELECT 1")) for database in databases]
    refused = [answer.json() for _, answer in answers if not answer.is_success]
    assert all(answer["outcome"] == "not_done" and answer["retryable"] for answer in refused), refused
    return [database for database, answer in answers if answer.is_success]


def test_a_killed_shard_leaves_the_others_databases_available_and_is_back_within_seconds(
    composition: Composition, tenant: Tenant, databases: list[TenantDatabase]
) -> None:
    for database in databases:
        database.query("CREATE TABLE t (v)")
        database.query("INSERT INTO t VALUES (?)", [database.name])
    composition.kill(composition.shards[0])
    left = _answering(databases)
    assert len(left) == 2
    for database in left:
        assert database.rows("SELECT v FROM t") == [[database.name]]
    # A list that lacks some would be a lie.
    answer = tenant.request("GET", f"/v1/services/{tenant.service}/resources")
    assert answer.status_code == 503 and answer.json()["code"] == "service_unavailable"
    # What was done is not called undone because the answer that lists it cannot be given.
    answer = tenant.request("POST", f"{databases[0].base}/databases", json={"name": "DB4"})
    assert answer.status_code == 503 and answer.json()["outcome"] == "done", answer.text
    # A new database goes where somebody is.
    new = TenantDatabase.made(composition.url, composition.token)
    assert new.rows("SELECT 1") == [[1]]
    new.close()
    composition.start(composition.shards[0])
    began = time.monotonic()
    while len(_answering(databases)) < 4:
        assert time.monotonic() - began < _BACK_WITHIN_S
        time.sleep(_POLL_S)
    for database in databases:
        assert database.rows("SELECT v FROM t") == [[database.name]]
    assert _names(tenant) == ["DB0", "DB1", "DB2", "DB3", "DB4"]


def test_a_database_made_again_under_its_name_is_found_wherever_it_lies(tenant: Tenant) -> None:
    for number in range(4):
        database = TenantDatabase(tenant, "AGAIN")
        assert database.rows("SELECT count(*) FROM sqlite_master") == [[0]]
        database.query("CREATE TABLE t (v)")
        # Moves the next one of this name to the other shard.
        TenantDatabase(tenant, f"OTHER{number}").close()
        assert tenant.request("DELETE", f"{database.base}/databases/AGAIN").is_success
        assert database.send("SELECT 1").json()["code"] == "sqlite_database_not_found"
        database.close()


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[S3Server]:
    (tmp_path / "s3").mkdir()
    server = S3Server(tmp_path / "s3")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def archived(tmp_path: Path, s3: S3Server) -> Iterator[Composition]:
    """Two shards that ship to one bucket."""
    settings = {"TOVUK_SQLITE_OWNERSHIP_SECONDS": str(_OWNED_S), "TOVUK_SQLITE_ARCHIVE_URL": s3.url}
    with Composition.started(tmp_path, own_settings={"sqlite": settings, "sqlite-2": settings}, shards=2) as started:
        yield started


async def test_a_lost_shard_is_rebuilt_from_what_was_shipped_to_its_bucket(
    archived: Composition, tmp_path: Path
) -> None:
    tenant, operator = Tenant.made(archived.url, archived.token), Operator(archived.url, archived.token)
    databases = [TenantDatabase(tenant, f"DB{number}") for number in range(3)]
    backups = []
    for database in databases:
        database.query("CREATE TABLE t (v)")
        for number in range(10):
            database.query("INSERT INTO t VALUES (?)", [f"{database.name}-{number}"])
        backups.append(database.backed_up())
    while not all(database.listed()["restorableFrom"] for database in databases):  # noqa: ASYNC110 nobody tells
        await asyncio.sleep(_POLL_S)
    await asyncio.sleep(_MOMENT_S)
    moment = int(time.time() * 1000)
    await asyncio.sleep(_MOMENT_S)
    for database in databases:
        database.query("INSERT INTO t VALUES ('moved')")
    # The shard that is lost has databases that came with their backups, in the bucket that both have.
    for found in tenant.request("GET", f"/v1/services/{tenant.service}/resources").json()["sqliteDatabases"]:
        if operator.shard_of(found["id"]) != "sqlite":
            await operator.moved(found["id"], "sqlite")
    operator.close()
    tenant.wait_until_metered("sqlite_rows_written", 33)
    # What is older than a second is in the archive.
    await asyncio.sleep(_SHIPPED_WITHIN_S)
    archived.kill("sqlite")
    shutil.rmtree(archived.folder("sqlite"))
    moved_last = max((tmp_path / "s3" / "objects").rglob("history/*/*/0*"), key=lambda path: path.stat().st_mtime_ns)
    content = moved_last.read_bytes()
    moved_last.write_bytes(content[:-1])
    status, said = archived.run("sqlite", "rebuild")
    (loss,) = [line for line in said.splitlines() if line.startswith("sqlite_")]
    assert status == 1 and "; it can be put back to 20" in loss and "Traceback" not in said
    assert said.splitlines()[-1].endswith("or accept the loss with --accept-data-loss, and run it again")
    moved_last.write_bytes(content)
    status, said = archived.run("sqlite", "rebuild", "--accept-data-loss")
    assert status == 0 and "put back" not in said
    archived.start("sqlite")
    sizes = []
    for database, backup in zip(databases, backups, strict=True):
        assert database.rows("SELECT count(*), min(v), max(v) FROM t") == [[11, f"{database.name}-0", "moved"]]
        assert database.listed()["backups"] == [backup]
        sizes.append(database.query("INSERT INTO t VALUES ('after')")["storageBytes"])
    assert _names(tenant) == ["DB0", "DB1", "DB2"]
    tenant.wait_until_metered("sqlite_rows_written", 36)
    # The account's level is that of the files, once: the folder goes on where the lost one ended.
    assert tenant.settled("sqlite_storage_bytes", for_s=1.0) == sum(sizes)
    for database, backup in zip(databases, backups, strict=True):
        for to in {"backupId": backup["id"]}, {"timestamp": moment}:
            database.put_back(**to)
            assert database.rows("SELECT count(*), max(v) FROM t") == [[10, f"{database.name}-9"]], to
        database.close()


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[Composition]:
    """Two shards with an archive each, outside of their folders."""
    own = {
        name: {
            "TOVUK_SQLITE_OWNERSHIP_SECONDS": str(_OWNED_S),
            "TOVUK_SQLITE_ARCHIVE_URL": f"file://{tmp_path}/archive-of-{name}",
        }
        for name in ("sqlite", "sqlite-2")
    }
    with Composition.started(tmp_path, own_settings=own, shards=2) as started:
        yield started


@pytest.mark.soak
async def test_what_a_move_brought_to_a_shard_that_was_lost_then_is_removed_and_the_database_moves_there_again(
    apart: Composition, tmp_path: Path
) -> None:
    tenant, operator = Tenant.made(apart.url, apart.token), Operator(apart.url, apart.token)
    databases = [TenantDatabase(tenant, f"DB{number}") for number in range(2)]
    for database in databases:
        database.query("CREATE TABLE t (v)")
        for _ in range(20):
            database.query("INSERT INTO t VALUES (randomblob(1000000))")
        database.backed_up()
    found = tenant.request("GET", f"/v1/services/{tenant.service}/resources").json()["sqliteDatabases"]
    here, there = operator.shard_of(found[0]["id"]), operator.shard_of(found[1]["id"])
    assert here != there
    database_id, theirs = found[0]["id"], tmp_path / f"archive-of-{there}"
    for comes_after in (True, False):
        assert operator.move(database_id, there).is_success
        while not any(theirs.glob(f"{database_id}/*/*")):  # noqa: ASYNC110 nobody tells
            await asyncio.sleep(0.001)
        apart.kill(there)
        shutil.rmtree(apart.folder(there))
        assert len([*theirs.glob("coming/*")]) == 2
        if not comes_after:
            assert operator.move(database_id, here).is_success
        assert apart.run(there, "rebuild")[0] == 0
        apart.start(there)
        deadline = time.monotonic() + 60
        while any(theirs.glob("coming/*")) or (comes_after and operator.databases()[there] != 2):
            assert time.monotonic() < deadline
            await asyncio.sleep(_POLL_S)
        if comes_after:
            await operator.moved(database_id, here)
            while any(theirs.glob(f"{database_id}/*")):  # noqa: ASYNC110 nobody tells
                await asyncio.sleep(_POLL_S)
    assert not any(theirs.glob(f"{database_id}/*"))
    operator.close()
    for database in databases:
        assert database.rows("SELECT count(*) FROM t") == [[20]]
        assert database.put_back(backupId=database.listed()["backups"][0]["id"])
        database.close()


@pytest.fixture
def short_owned(tmp_path: Path) -> Iterator[Composition]:
    """A shard whose ownership is short, and a second process that may have its name."""
    with Composition.started(tmp_path, own_settings={"sqlite": _SHORT}, shards=2) as started:
        yield started


def test_a_frozen_shard_is_taken_over_elsewhere_and_serves_nothing_when_it_wakes(
    short_owned: Composition, tmp_path: Path
) -> None:
    database = TenantDatabase.made(short_owned.url, short_owned.token)
    database.query("CREATE TABLE t (v)")
    database.query("INSERT INTO t VALUES ('before')")
    short_owned.freeze("sqlite")
    frozen_at = time.monotonic()
    # As a volume that was attached to another machine: the same folder under another lock.
    short_owned.kill("sqlite-2")
    shutil.rmtree(tmp_path / "sqlite-2")
    shutil.copytree(tmp_path / "sqlite", tmp_path / "sqlite-2")
    short_owned.own_settings["sqlite-2"] = _SHORT
    said = len(short_owned.log("sqlite-2"))
    short_owned.start("sqlite-2")
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{short_owned.url}{database.path}",
            json={"sql": "INSERT INTO t VALUES ('frozen')"},
            headers={"Authorization": f"Bearer {database.tenant.token}"},
            timeout=_OWNED_S / 2,
            verify=False,
        ).raise_for_status()
    began = time.monotonic()
    while "the shard is ours" not in short_owned.log("sqlite-2")[said:]:
        assert time.monotonic() - began < _BACK_WITHIN_S
        time.sleep(_POLL_S)
    # Its last renewal may be a third of a second old when it freezes.
    assert time.monotonic() - frozen_at > _OWNED_S - 0.5
    short_owned.thaw("sqlite")
    began = time.monotonic()
    while "the shard is another process's" not in short_owned.log("sqlite"):
        assert time.monotonic() - began < _BACK_WITHIN_S
        time.sleep(_POLL_S)
    assert database.query("INSERT INTO t VALUES ('after') RETURNING v")["rows"] == [["after"]]
    assert database.rows("SELECT v FROM t ORDER BY rowid") == [["before"], ["after"]]
    database.close()
