import asyncio
import contextlib
import shutil
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest
from sqlite_node import Node, sqlite_node, until

from tovuk_kit.clock import FakeClock, SystemClock
from tovuk_kit.errors import StoreUnavailable, TovukError
from tovuk_sqlite.clients.control import Placed
from tovuk_sqlite.directory import Target
from tovuk_sqlite.recovery import DataLoss, recover
from tovuk_sqlite.store.backups import Backup, Kind, Restore, Status, object_of
from tovuk_sqlite.store.base import Engine
from tovuk_sqlite.store.catalog import SqliteCatalog
from tovuk_sqlite.store.directory_archive import DirectoryArchive

DAY_MS = 86_400_000


@pytest.fixture
async def node(tmp_path: Path, engine: Engine) -> AsyncIterator[Node]:
    async with sqlite_node(tmp_path, engine) as started:
        yield started


class HangingArchive(DirectoryArchive):
    """An archive that does not answer until the process is gone."""

    def __init__(self, root: Path, store_id: str) -> None:
        super().__init__(root, store_id)
        self.asked = threading.Event()
        self.gone = threading.Event()

    def put_file(self, name: str, path: Path) -> None:
        if "/backups/" in name:
            self.asked.set()
            self.gone.wait(30)
            raise StoreUnavailable(retry_after_ms=1_000)
        super().put_file(name, path)


@pytest.fixture
async def db(node: Node) -> Target:
    target = await node.create()
    await node.run(target, "create table t(v)", "insert into t values ('before')")
    return target


async def restored(node: Node, db: Target, backup: Backup) -> Restore:
    begun = await node.backups.restore(db, "self_hosted", backup.id)
    return await node.until_restored(db, begun.id)


def object_path(node: Node, backup: Backup) -> Path:
    return node.data_dir / "archive" / object_of(backup)


async def test_a_backup_holds_what_was_answered_before_and_nothing_of_ours(node: Node, db: Target) -> None:
    backup = await node.backed_up(db)
    await node.run(db, "insert into t values ('after')")
    assert (backup.kind, backup.status) == (Kind.MANUAL, Status.READY)
    kept = object_path(node, backup)
    assert kept.stat().st_size == backup.size_bytes
    with contextlib.closing(apsw.Connection(str(kept), flags=apsw.SQLITE_OPEN_READWRITE)) as copy:
        assert copy.execute("select v from t").fetchall() == [("before",)]
        assert copy.execute("select count(*) from _tovuk_used").get == 0
        assert copy.execute("pragma integrity_check").get == "ok"


async def test_a_copy_made_while_the_database_is_written_is_of_one_moment(node: Node, db: Target) -> None:
    await node.run(db, "create table a(n)", "create table b(n)", "create table c as select randomblob(3000000)")
    stop = asyncio.Event()

    async def write() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            await node.run(db, ("insert into a values (?)", [n]), ("insert into b values (?)", [n]))

    writing = asyncio.create_task(write())
    backups = [await node.backed_up(db) for _ in range(5)]
    stop.set()
    await writing
    assert {backup.status for backup in backups} == {Status.READY}
    last = await node.run(db, "select count(*) from a")
    assert await restored(node, db, backups[-1])
    assert await node.run(db, "select count(*) from a") == await node.run(db, "select count(*) from b")
    assert await node.run(db, "select count(*) from a") <= last


async def test_a_restore_puts_the_backup_in_place_and_keeps_what_it_replaces(node: Node, db: Target) -> None:
    backup = await node.backed_up(db)
    await node.run(db, "update t set v = 'after'")
    restore = await restored(node, db, backup)
    assert restore.status is Status.READY
    assert await node.run(db, "select v from t") == [["before"]]
    await node.run(db, "insert into t values ('since')")
    safety = await node.until_made(db, restore.safety_id)
    assert (safety.kind, safety.status) == (Kind.SAFETY, Status.READY)
    assert (await restored(node, db, safety)).status is Status.READY
    assert await node.run(db, "select v from t") == [["after"]]


async def test_a_replaced_generation_is_removed_once_it_is_kept_safe(node: Node, db: Target) -> None:
    restore = await restored(node, db, await node.backed_up(db))
    await node.until_made(db, restore.safety_id)
    folder = next((node.data_dir / "databases").glob("*/*"))
    left = {"2.sqlite", "2.sqlite-wal", "2.sqlite-shm"}
    await until(lambda: {file.name for file in folder.iterdir()} <= left)
    assert await node.run(db, "select v from t") == [["before"]]


async def test_writes_go_on_through_a_restore_each_in_exactly_one_generation(node: Node, db: Target) -> None:
    backup = await node.backed_up(db)
    written: list[int] = []

    async def write(first: int) -> None:
        for n in range(first, first + 60):
            await node.run(db, ("insert into t values (?)", [n]))
            written.append(n)

    writers = [asyncio.create_task(write(1000 * number)) for number in range(1, 5)]
    await asyncio.sleep(0.02)
    restore = await restored(node, db, backup)
    await asyncio.gather(*writers)
    now = {row[0] for row in await node.run(db, "select v from t where typeof(v) = 'integer'")}
    safety = await node.until_made(db, restore.safety_id)
    assert (await restored(node, db, safety)).status is Status.READY
    before = {row[0] for row in await node.run(db, "select v from t where typeof(v) = 'integer'")}
    assert before.isdisjoint(now)
    assert before | now == set(written)


async def test_a_write_waits_while_a_restore_changes_the_database(node: Node, db: Target) -> None:
    database = await node.databases.directory.resolve(db)
    async with node.gates.closed(database.id):
        writing = asyncio.create_task(node.run(db, "insert into t values ('waits')"))
        await asyncio.sleep(0.05)
        assert await node.run(db, "select v from t") == [["before"]]
        assert not writing.done()
    await writing
    assert await node.run(db, "select v from t") == [["before"], ["waits"]]


async def test_units_of_a_replaced_file_are_reported_once(node: Node, db: Target) -> None:
    backup = await node.backed_up(db)
    await node.run(db, "insert into t values (1), (2)")
    await restored(node, db, backup)
    await node.run(db, "insert into t values (3)")

    def lines() -> list[tuple[str, int]]:
        reported = node.metering.totals().get(node.metering.leases["sqlite_rows_written"])
        return [(line.resource_id, line.units) for line in reported.lines] if reported else []

    await until(lambda: lines() == [(backup.database_id, 4)])


async def test_a_reader_of_the_old_generation_is_not_disturbed(node: Node, db: Target) -> None:
    backup = await node.backed_up(db)
    await node.run(db, "update t set v = 'after'")
    numbers = "with recursive c(x) as (select 1 union all select x + 1 from c where x < 300000)"
    reading = asyncio.create_task(node.run(db, f"{numbers} select v, count(*) from t, c"))
    await asyncio.sleep(0.01)
    await restored(node, db, backup)
    assert await reading == [["after", 300_000]]


@pytest.mark.parametrize("copied", [False, True])
async def test_a_manual_backup_that_was_interrupted_fails_unless_its_copy_was_whole(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch, copied: bool
) -> None:
    archive = HangingArchive(tmp_path / "archive", "store")
    async with sqlite_node(tmp_path, engine, archive=archive) as node:
        db = await node.create()
        await node.run(db, "create table t(v)", "insert into t values ('before')")
        made = await node.backups.create(db, "free")
        await until(archive.asked.is_set)
        await node.run(db, "update t set v = 'after'")
        if not copied:
            next((tmp_path / "databases").glob("*/*/*.staged")).unlink()
        archive.gone.set()
    async with sqlite_node(tmp_path, engine) as node:
        backup = await node.until_made(db, made.id)
        if copied:
            await restored(node, db, backup)
            assert await node.run(db, "select v from t") == [["before"]]
        else:
            assert (backup.status, backup.reason) == (Status.FAILED, "sqlite_backup_interrupted")


@pytest.mark.parametrize("damage", ["a byte", "the end", "all"])
async def test_a_damaged_backup_is_found_and_never_restored(node: Node, db: Target, damage: str) -> None:
    await node.run(db, "create table filler as select randomblob(20000) as x")
    backup = await node.backed_up(db)
    await node.run(db, "update t set v = 'after'")
    kept = object_path(node, backup)
    content = bytearray(kept.read_bytes())
    match damage:
        case "a byte":
            content[len(content) // 2] ^= 1
            kept.write_bytes(content)
        case "the end":
            kept.write_bytes(content[:-4096])
        case "all":
            kept.unlink()
    restore = await restored(node, db, backup)
    assert (restore.status, restore.reason) == (Status.FAILED, "sqlite_backup_damaged")
    assert await node.run(db, "select v from t") == [["after"]]
    assert (await node.until_made(db, restore.safety_id)).status is Status.FAILED


async def test_a_corrupt_database_makes_no_backup(node: Node, db: Target) -> None:
    await node.run(db, "create table u(v unique)", "insert into u values ('x'), ('y')")
    await node.files.writing(await node.databases.directory.resolve(db), lambda writer: writer.checkpoint())
    await node.files.close()
    file = next((node.data_dir / "databases").glob("*/*/1.sqlite"))
    file.with_name("1.sqlite-wal").unlink(missing_ok=True)
    content = file.read_bytes()
    file.write_bytes(content[: 2 * 4096] + content[2 * 4096 :].replace(b"before", b"\xff" * 6).replace(b"y", b"x"))
    backup = await node.backed_up(db)
    assert (backup.status, backup.reason) == (Status.FAILED, "sqlite_backup_damaged")


async def test_one_backup_and_one_restore_of_a_database_at_a_time(node: Node, db: Target) -> None:
    backup = await node.backed_up(db)
    made = await node.backups.create(db, "free")
    with pytest.raises(TovukError) as refused:
        await node.backups.create(db, "free")
    assert refused.value.code == "sqlite_backup_under_way"
    begun = await node.backups.restore(db, "free", backup.id)
    with pytest.raises(TovukError) as refused:
        await node.backups.restore(db, "free", backup.id)
    assert refused.value.code == "sqlite_restore_under_way"
    await node.until_made(db, made.id)
    await node.until_restored(db, begun.id)


async def test_only_a_ready_backup_of_the_same_database_is_restored(node: Node, db: Target) -> None:
    made = await node.backups.create(db, "free")
    with pytest.raises(TovukError) as refused:
        await node.backups.restore(db, "free", made.id)
    assert refused.value.code == "sqlite_backup_not_ready"
    await node.until_made(db, made.id)
    other = await node.create("OTHER")
    for unknown in (made.id, "sqlite_backup_00000000000000000000"):
        with pytest.raises(TovukError) as refused:
            await node.backups.restore(other, "free", unknown)
        assert refused.value.code == "sqlite_backup_not_found"


async def test_a_backup_that_has_expired_is_removed(tmp_path: Path, engine: Engine) -> None:
    clock = FakeClock()
    async with sqlite_node(tmp_path, engine, clock=clock) as node:
        db = await node.create()
        free, own = await node.backed_up(db, "free"), await node.backed_up(db, "self_hosted")
        clock.advance(8 * DAY_MS)
        await node.backups.expire()
        assert [backup.id for backup in (await node.backups.list(db)).backups] == [own.id]
        assert not object_path(node, free).exists() and object_path(node, own).exists()


async def test_the_oldest_backup_goes_for_one_more_than_the_plan_keeps(node: Node, db: Target) -> None:
    made = [await node.backed_up(db, "free") for _ in range(6)]
    listed = {backup.id for backup in (await node.backups.list(db)).backups}
    assert listed == {backup.id for backup in made[1:]}
    assert not object_path(node, made[0]).exists()


async def test_what_is_being_made_and_what_lies_here_alone_hold_a_database_back(tmp_path: Path, engine: Engine) -> None:
    clock = FakeClock()
    async with sqlite_node(tmp_path, engine, clock=clock) as node:
        db = await node.create()
        await node.run(db, "create table u(v unique)", "insert into u values ('x'), ('y')")
        database = await node.databases.directory.resolve(db)
        assert node.backups.holds_back(database) == ""
        made = await node.backups.create(db, "self_hosted")
        assert "under way" in node.backups.holds_back(database)
        backup = await node.until_made(db, made.id)
        await until(lambda: node.backups.holds_back(database) == "")
        await node.files.writing(database, lambda writer: writer.checkpoint())
        await node.files.close()
        file = next((tmp_path / "databases").glob("*/*/1.sqlite"))
        file.with_name("1.sqlite-wal").unlink(missing_ok=True)
        content = file.read_bytes()
        file.write_bytes(content[: 2 * 4096] + content[2 * 4096 :].replace(b"y", b"x"))
        restore = await restored(node, db, backup)
        assert (await node.until_made(db, restore.safety_id)).reason == "sqlite_backup_damaged"
        database = await node.databases.directory.resolve(db)
        await until(lambda: "corrupt" in node.backups.holds_back(database))
        clock.advance(31 * DAY_MS)
        await node.backups.expire()
        assert node.backups.holds_back(database) == ""


class AwayArchive(DirectoryArchive):
    """An archive that can be cut off."""

    away = False

    def put_file(self, name: str, path: Path) -> None:
        if self.away:
            raise StoreUnavailable(retry_after_ms=1_000)
        super().put_file(name, path)


class RememberingArchive(DirectoryArchive):
    """An archive that remembers, once it is told to, what it was after each of its changes."""

    remembers = False

    def __init__(self, root: Path, store_id: str) -> None:
        super().__init__(root, store_id)
        self._place = root
        self._changing = threading.RLock()
        self.states: list[Path] = []

    def put(self, name: str, content: bytes) -> None:
        with self._changing:
            super().put(name, content)
            self.remember()

    def put_file(self, name: str, path: Path) -> None:
        with self._changing:
            super().put_file(name, path)
            self.remember()

    def remove(self, name: str) -> None:
        with self._changing:
            super().remove(name)
            self.remember()

    def remember(self) -> None:
        if self.remembers:
            copy = self._place.with_name(f"archive-{len(self.states)}")
            shutil.copytree(self._place, copy)
            self.states.append(copy)


async def test_a_shard_that_is_lost_at_any_step_of_a_restore_comes_back_as_it_was_before_or_after_it(
    tmp_path: Path, engine: Engine
) -> None:
    archive = RememberingArchive(tmp_path / "archive", "store")
    async with sqlite_node(tmp_path / "data", engine, archive=archive) as node:
        db = await node.create()
        await node.run(db, "create table t(v)", "insert into t values ('before')")
        backup = await node.backed_up(db)
        await node.run(db, "update t set v = 'after'")
        database = await node.databases.directory.resolve(db)
        node.history.ship(node.history.chain(database.id, 1))
        await node.shipping.close()
        archive.remembers = True
        restore = await restored(node, db, backup)
        await node.until_made(db, restore.safety_id)
        await node.run(db, "insert into t values ('later')")
        node.history.ship(node.history.chain(database.id, 2))
    placed = [Placed(database.id, database.name, database.service_id, database.account_id, database.created_at_ms)]
    found = []
    for copy in archive.states:
        folder = copy.with_name(f"rebuilt-from-{copy.name}")
        catalog = await SqliteCatalog.open(folder, engine.library, lost_store_id="store")
        archive_there, losses = DirectoryArchive(copy, "store"), list[DataLoss]()
        assert await recover(catalog, engine, archive_there, folder, placed, SystemClock(), losses.append), losses
        await catalog.finish()
        await catalog.close()
        async with sqlite_node(folder, engine, archive=archive_there) as node:
            found.append([value for (value,) in await node.run(db, "select v from t")])
    begun = [any(copy.glob(f"{database.id}/history/000002/*/0*")) for copy in archive.states]
    assert any(copy.glob(f"{database.id}/history/000002/*/base-*") for copy in archive.states[: begun.index(True)])
    assert found[:-1] == [["before"] if one else ["after"] for one in begun[:-1]]
    assert found[-1] == ["before", "later"]


async def test_a_base_that_a_failed_restore_left_is_never_another_generations(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sqlite_node(tmp_path, engine) as node:
        db = await node.create()
        await node.run(db, "create table t(v)", "insert into t values ('before')")
        backup = await node.backed_up(db)
        await node.run(db, "update t set v = 'after'")
        database = await node.databases.directory.resolve(db)
        prepare = node.history.prepare

        def and_fail(database_id: str, number: int, path: Path) -> None:
            prepare(database_id, number, path)
            raise StoreUnavailable(retry_after_ms=1_000)

        with monkeypatch.context() as patched:
            patched.setattr(node.history, "prepare", and_fail)
            patched.setattr(node.history, "unprepare", lambda *_: None)
            assert (await restored(node, db, backup)).reason == "store_unavailable"
        left = next((tmp_path / "archive" / database.id / "history" / "000002").glob("*/base-*"))
        chain = node.history.chain(database.id, 2)
        node.files.engine.create(chain.path)
        await until(lambda: chain.position is not None and not chain.base_wanted)
        assert not left.exists()


async def test_what_a_restore_replaced_is_kept_until_the_archive_is_back(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tovuk_sqlite.backups.RETRY_S", 0.02)
    archive = AwayArchive(tmp_path / "archive", "store")
    async with sqlite_node(tmp_path, engine, archive=archive) as node:
        db = await node.create()
        await node.run(db, "create table t(v)", "insert into t values ('before')")
        backup = await node.backed_up(db)
        await node.run(db, "update t set v = 'after'")
        archive.away = True
        assert (await node.backed_up(db)).reason == "store_unavailable"
        restore = await restored(node, db, backup)
        assert restore.status is Status.READY
    async with sqlite_node(tmp_path, engine, archive=archive) as node:
        assert await node.run(db, "select v from t") == [["before"]]
        archive.away = False
        safety = await node.until_made(db, restore.safety_id)
        await restored(node, db, safety)
        assert await node.run(db, "select v from t") == [["after"]]
