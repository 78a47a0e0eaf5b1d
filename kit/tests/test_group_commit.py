"""Groups, faults and full disks, on a disk that fails when it is told to."""

import asyncio
import os
import threading
from pathlib import Path

import apsw
import pytest

from tovuk_kit import group_commit
from tovuk_kit.errors import Outcome, StorageFull, StoreUnavailable
from tovuk_kit.migrations import Migration
from tovuk_kit.sqlite import SqliteFile
from tovuk_kit.sqlite_errors import Failure

SCHEMA = Migration(1, "item", "CREATE TABLE item (k TEXT PRIMARY KEY, v TEXT NOT NULL)", "DROP TABLE item")
RESERVE_BYTES = 8 << 20


class Disk(apsw.VFS):
    """A disk that fails syncs while `broken`, and writes that lengthen a file when `room_bytes` are used up."""

    def __init__(self, folder):
        self.broken = False
        self.room_bytes = None
        self._reserve = folder / "a.db.reserve"
        super().__init__("failing", "unix", makedefault=True)

    def xOpen(self, name, flags):  # noqa: N802 -- apsw's name
        return DiskFile(self, name, flags)

    def take(self, size_bytes):
        if self.room_bytes is None:
            return
        freed = 0 if self._reserve.exists() else RESERVE_BYTES
        if self.room_bytes + freed < size_bytes:
            raise apsw.FullError("no room")
        self.room_bytes -= size_bytes


class DiskFile(apsw.VFSFile):
    def __init__(self, disk, name, flags):
        self._disk = disk
        super().__init__("unix", name, flags)

    def xWrite(self, data, offset):  # noqa: N802 -- apsw's name
        longer = offset + len(data) - self.xFileSize()
        if longer > 0:
            self._disk.take(longer)
        super().xWrite(data, offset)

    def xSync(self, flags):  # noqa: N802 -- apsw's name
        if self._disk.broken:
            error = apsw.IOError("the disk is broken")
            error.extendedresult = apsw.SQLITE_IOERR_FSYNC
            raise error
        super().xSync(flags)


@pytest.fixture
def disk(tmp_path):
    disk = Disk(tmp_path)
    yield disk
    disk.unregister()


#: The disk that fails when it is told to is apsw's alone.
on_the_disk = pytest.mark.parametrize("library", ["stock"], indirect=True)


@pytest.fixture
async def file(tmp_path, disk, library):
    file = SqliteFile.open(tmp_path / "a.db", library, migrations=[SCHEMA], reserve_bytes=RESERVE_BYTES)
    yield file
    disk.broken, disk.room_bytes = False, None
    await file.close()


def put(connection, k, v="v"):
    connection.execute("INSERT INTO item VALUES (?, ?)", (k, v))


def keys(file):
    return file.read(lambda c: [row[0] for row in c.execute("SELECT k FROM item ORDER BY k")])


def refuse_writes(path):
    """Whoever has the file open in this process can only read it from now on."""
    for handle in Path("/proc/self/fd").iterdir():
        if handle.is_symlink() and handle.readlink() == path:
            reading = os.open(path, os.O_RDONLY)
            os.dup2(reading, int(handle.name), inheritable=False)
            os.close(reading)


@pytest.fixture
def together(file):
    """Run works in one group: they wait in the queue while the writer is held; returns results and exceptions."""

    async def run(*works, essential=()):
        held, go_on = threading.Event(), threading.Event()
        first = asyncio.ensure_future(file.write(lambda c: held.set() or go_on.wait(30), essential=True))
        await asyncio.to_thread(held.wait, 30)
        futures = [asyncio.ensure_future(file.write(work, essential=work in essential)) for work in works]
        await asyncio.sleep(0)
        go_on.set()
        await first
        return await asyncio.gather(*futures, return_exceptions=True)

    return run


async def test_works_that_wait_share_one_commit(file, together):
    commits = []
    await file.write(lambda c: c.set_wal_hook(lambda *_: commits.append(1) or 0))
    await together(*(lambda c, n=n: put(c, f"k{n}") for n in range(100)))
    assert len(commits) == 1
    assert len(keys(file)) == 100


async def test_a_work_sees_the_works_before_it(together):
    def count(connection):
        return connection.execute("SELECT count(*) FROM item").get

    assert await together(lambda c: put(c, "a"), count, lambda c: put(c, "b"), count) == [None, 1, None, 2]


async def test_a_work_that_fails_undoes_itself_alone(file, together):
    def fail(connection):
        put(connection, "b")
        raise LookupError

    results = await together(lambda c: put(c, "a"), fail, lambda c: put(c, "c"))
    assert [type(result) for result in results] == [type(None), LookupError, type(None)]
    assert keys(file) == ["a", "c"]


@pytest.mark.parametrize("attempt", [1, 2])
async def test_a_table_made_by_a_work_that_fails_is_gone(file, together, attempt):
    def fail(connection):
        connection.execute("CREATE TABLE other (k TEXT)")
        raise LookupError

    for _ in range(attempt):
        await together(lambda c: put(c, "a") if attempt == 1 else None, fail)
    assert file.read(lambda c: c.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'other'").get) == 0


async def test_a_broken_deferred_constraint_fails_its_own_work_alone(file, library, together):
    await file.write(
        lambda c: c.execute("CREATE TABLE part (k TEXT REFERENCES item (k) DEFERRABLE INITIALLY DEFERRED)")
    )
    works = [lambda c, k=k: put(c, k) for k in "abcdefg"]
    works.insert(4, lambda c: c.execute("INSERT INTO part VALUES ('none')"))
    results = await together(*works)
    assert library.failure(results.pop(4)) is Failure.CONSTRAINT
    assert results == [None] * 7
    assert keys(file) == list("abcdefg")


async def test_a_work_that_ends_the_transaction_fails_its_group_and_not_the_writer(file, together):
    results = await together(lambda c: put(c, "a"), lambda c: c.execute("ROLLBACK"))
    assert all(isinstance(result, StoreUnavailable) for result in results)
    await file.write(lambda c: put(c, "b"))
    assert keys(file) == ["b"]


@on_the_disk
async def test_a_commit_that_cannot_be_synced_has_an_unknown_outcome_and_the_file_goes_on(file, disk, together):
    await file.write(lambda c: put(c, "a"))
    disk.broken = True
    failures = await asyncio.gather(*(file.write(lambda c, k=k: put(c, k)) for k in "bc"), return_exceptions=True)
    assert [(type(failure), failure.outcome) for failure in failures] == [(StoreUnavailable, Outcome.UNKNOWN)] * 2
    disk.broken = False
    await file.write(lambda c: put(c, "d"))
    assert set(keys(file)) >= {"a", "d"}


async def test_a_commit_that_cannot_be_written_fails_its_group_and_the_file_goes_on(file):
    await file.write(lambda c: put(c, "a"))
    refuse_writes(file.path.with_name("a.db-wal"))
    with pytest.raises(StoreUnavailable) as failure:
        await file.write(lambda c: put(c, "b"))
    assert failure.value.outcome is Outcome.UNKNOWN
    await file.write(lambda c: put(c, "c"))
    assert set(keys(file)) >= {"a", "c"}


@on_the_disk
async def test_a_full_disk_refuses_what_adds_and_runs_what_is_essential(file, disk, together):
    await file.write(lambda c: put(c, "a", "x" * 100_000))
    disk.room_bytes = 0

    def delete(connection):
        connection.execute("DELETE FROM item WHERE k = 'a'")

    def add(connection):
        put(connection, "b", "x" * 100_000)

    refused, deleted = await together(add, delete, essential=[delete])
    assert isinstance(refused, StorageFull)
    assert refused.outcome is Outcome.NOT_DONE
    assert deleted is None
    assert keys(file) == []


@on_the_disk
async def test_writes_come_back_with_the_room_and_the_reserve_with_them(file, disk, tmp_path, monkeypatch):
    monkeypatch.setattr(group_commit, "RETRY_SECONDS", 0.0)
    disk.room_bytes = 0
    with pytest.raises(StorageFull):
        await file.write(lambda c: put(c, "a", "x" * 10_000_000))
    assert not (tmp_path / "a.db.reserve").exists()
    disk.room_bytes = None
    await file.write(lambda c: put(c, "b"))
    assert (tmp_path / "a.db.reserve").stat().st_blocks * 512 >= RESERVE_BYTES
    assert keys(file) == ["b"]


async def test_the_wal_stays_bounded_under_steady_writes(file, tmp_path):
    for _ in range(60):
        await asyncio.gather(
            *(
                file.write(lambda c, n=n: c.execute("REPLACE INTO item VALUES (?, ?)", (f"{n}", "x" * 3000)))
                for n in range(128)
            )
        )
    # All in all some 7,000 pages of 4 KiB were written.
    assert (tmp_path / "a.db-wal").stat().st_size < 5 * group_commit.CHECKPOINT_PAGES * 4096


async def test_more_works_than_the_queue_holds_are_refused(file, monkeypatch):
    monkeypatch.setattr(group_commit, "QUEUED_WORKS_MAX", 10)
    held, go_on = threading.Event(), threading.Event()
    first = asyncio.ensure_future(file.write(lambda c: held.set() or go_on.wait(30)))
    await asyncio.to_thread(held.wait, 30)
    waiting = [asyncio.ensure_future(file.write(lambda c, n=n: put(c, f"{n}"))) for n in range(10)]
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable):
        await file.write(lambda c: put(c, "too many"))
    go_on.set()
    await asyncio.gather(first, *waiting)
    assert len(keys(file)) == 10
