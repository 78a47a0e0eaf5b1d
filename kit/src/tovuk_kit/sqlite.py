"""One SQLite file of one process: durable writes in groups, reads from snapshots of their own."""

import asyncio
import contextlib
import fcntl
import logging
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, Generic, Self, TypeVar

from tovuk_kit.errors import StoreUnavailable
from tovuk_kit.files import make_folder, sync_folder
from tovuk_kit.group_commit import Answers, GroupCommit, Work
from tovuk_kit.migrations import Migration, apply
from tovuk_kit.reserve import Reserve
from tovuk_kit.sqlite_errors import translated
from tovuk_kit.sqlite_library import C, Connection, Library, fault
from tovuk_kit.sqlite_tx import SqliteTx

T = TypeVar("T")

log = logging.getLogger(__name__)

#: Older libraries can corrupt a WAL that is begun anew while another connection writes (sqlite.org/wal.html).
SQLITE_VERSION_MIN: Final = (3, 51, 3)
RESERVE_BYTES: Final = 8 * 1024 * 1024
READ_THREADS: Final = 4
#: With less room than this on its disk a file may fail to open.
OPENING_BYTES: Final = 1024 * 1024

#: synchronous FULL: with NORMAL a power cut takes back acknowledged commits of a WAL.
#: mmap off: a failed read through a mapping is a SIGBUS instead of an error.
WRITER_PRAGMAS: Final[tuple[str, ...]] = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "fullfsync = ON",
    "checkpoint_fullfsync = ON",
    "wal_autocheckpoint = 0",
    "journal_size_limit = 67108864",
    "mmap_size = 0",
    "cache_size = -32768",
    "temp_store = MEMORY",
    "foreign_keys = ON",
    "trusted_schema = OFF",
)
READER_PRAGMAS: Final[tuple[str, ...]] = (
    "query_only = ON",
    "mmap_size = 0",
    "cache_size = -16384",
    "temp_store = MEMORY",
    "trusted_schema = OFF",
)


class FileInUse(Exception):
    """Another process, or another SqliteFile of this one, has the file open."""


class SqliteTooOld(Exception):
    """The SQLite library has a known corruption bug."""


class SqliteFile(Generic[C]):
    """One durable SQLite file, written by nobody else, opened by one library.

    A *work* is a function of the library's connection. Works run one after the other on the writer thread, in groups of
    one transaction each, and see the works before them. One that raises undoes its own changes and nobody else's. A
    work may be run again when its group was rolled back, so it changes nothing but the database, and it returns no
    exception as a value. `essential` works (deletes, usage, sweeps) go on, by the room of a reserve file, when the
    disk is full.
    """

    def __init__(
        self, path: Path, library: Library[C], lock: int, reserve: Reserve, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.path = path
        self._library = library
        self._lock = lock
        self._loop = loop
        self._closed = False
        connect = partial(_connect, library, path, WRITER_PRAGMAS)
        self._writer = GroupCommit(path.name, library, connect, reserve, self._deliver)
        self._readers = threading.local()
        self._reader_connections: list[C] = []
        self._read_threads = ThreadPoolExecutor(READ_THREADS, thread_name_prefix=f"read {path.name}")

    @classmethod
    def open(
        cls,
        path: str | Path,
        library: Library[C],
        *,
        migrations: Sequence[Migration] = (),
        reserve_bytes: int = RESERVE_BYTES,
    ) -> Self:
        """Open or create the file, migrate it to the newest version and start its writer.

        Called on the running event loop, which it blocks. Raises SqliteTooOld, FileInUse, MigrationError, StorageFull
        or StoreUnavailable.
        """
        check_version(library)
        path = Path(path).absolute()
        loop = asyncio.get_running_loop()
        try:
            make_folder(path.parent)
            lock = _locked(path.with_name(f"{path.name}.lock"))
            try:
                reserve = Reserve(path.with_name(f"{path.name}.reserve"), reserve_bytes)
                _prepare_within_room(library, path, migrations, reserve)
            except BaseException:
                os.close(lock)
                raise
        except OSError as error:
            raise translated(error) from error
        except Exception as error:
            if failure := fault(library, error):
                raise translated(failure) from error
            raise
        file = cls(path, library, lock, reserve, loop)
        file._writer.start()
        return file

    def submit(self, work: Work[C, T], done: Callable[[T | BaseException], None], *, essential: bool = False) -> None:
        """Queue `work`; on the event loop `done` gets its result, once that is durable, or its exception.

        `done` may get StorageFull or StoreUnavailable instead. Raises StoreUnavailable when closed or overloaded.
        """
        self._writer.put((work, done, essential))

    async def write(self, work: Work[C, T], *, essential: bool = False) -> T:
        """Run `work`; returns when its effect is durable. Raises what it raises, StorageFull or StoreUnavailable."""
        future: asyncio.Future[T] = self._loop.create_future()
        self.submit(work, partial(_settle, future), essential=essential)
        return await future

    def read(self, work: Work[C, T]) -> T:
        """Run `work` on the calling thread over one snapshot: all that is acknowledged, nothing unfinished.

        For short reads; several in one work share the snapshot's cost. Raises what `work` raises, or StoreUnavailable.
        """
        try:
            connection = self._reader()
            connection.execute("BEGIN")
            try:
                return work(connection)
            finally:
                if connection.in_transaction:
                    connection.execute("COMMIT")
        except Exception as error:
            if failure := fault(self._library, error):
                raise translated(failure) from error
            raise

    async def read_in_thread(self, work: Work[C, T]) -> T:
        """`read` on another thread, for reads that may take long."""
        if self._closed:
            raise StoreUnavailable
        return await self._loop.run_in_executor(self._read_threads, self.read, work)

    async def close(self) -> None:
        """Finish what is queued and let go of the file; again is no harm."""
        if not self._closed:
            self._closed = True
            await asyncio.to_thread(self._stop)

    def _stop(self) -> None:
        self._read_threads.shutdown()
        for connection in self._reader_connections:
            connection.close()
        self._writer.close()
        os.close(self._lock)

    def _reader(self) -> C:
        if self._closed:
            raise StoreUnavailable
        connection: C | None = getattr(self._readers, "connection", None)
        if connection is None:
            connection = self._readers.connection = _connect(self._library, self.path, READER_PRAGMAS)
            self._reader_connections.append(connection)
        return connection

    def _deliver(self, answers: Answers) -> None:
        try:
            self._loop.call_soon_threadsafe(_answer, answers)
        except RuntimeError:
            log.warning("the event loop ended before %d answers of %s", len(answers), self.path.name)


def _answer(answers: Answers) -> None:
    for done, result in answers:
        try:
            done(result)
        except Exception:
            log.exception("a callback failed after its write")


def _settle(future: "asyncio.Future[T]", result: T | BaseException) -> None:
    if future.done():
        return
    if isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)


def check_version(library: Library[Connection]) -> None:
    """Raises SqliteTooOld."""
    if tuple(map(int, library.version.split("."))) < SQLITE_VERSION_MIN:
        raise SqliteTooOld(f"SQLite {library.version} lies below {SQLITE_VERSION_MIN}")


def _connect(library: Library[C], path: Path, pragmas: Sequence[str]) -> C:
    connection = library.connect(path)
    for pragma in pragmas:
        connection.execute(f"PRAGMA {pragma}").fetchall()
    return connection


def _prepare_within_room(
    library: Library[Connection], path: Path, migrations: Sequence[Migration], reserve: Reserve
) -> None:
    """Prepare the file; on a full disk even its index in shared memory needs some of the reserve's room."""
    try:
        _prepare(library, path, migrations)
        reserve.make()
    except Exception as error:
        if not fault(library, error) or not reserve.exists or reserve.free_bytes > OPENING_BYTES:
            raise
        reserve.give_up()
        _prepare(library, path, migrations)


def _prepare(library: Library[Connection], path: Path, migrations: Sequence[Migration]) -> None:
    created = not path.exists()
    with contextlib.closing(_connect(library, path, WRITER_PRAGMAS)) as connection:
        if migrations:
            # What fails is rolled back when the connection closes.
            connection.execute("BEGIN")
            apply(SqliteTx(connection, library), migrations)
            connection.execute("COMMIT")
    if created:
        sync_folder(path.parent)


def _locked(path: Path) -> int:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise FileInUse(f"{path} is held by another process") from None
    return lock
