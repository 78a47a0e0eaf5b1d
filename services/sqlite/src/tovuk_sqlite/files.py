"""The files that are open: a few readers and one writer each, and the files used longest ago closed for new ones.

What a file's WAL holds stays there when it is closed: only a checkpoint, after all of it is shipped, copies it back.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Lock, get_ident
from typing import TypeVar

from tovuk_kit.errors import TovukError
from tovuk_sqlite.chain import Chain
from tovuk_sqlite.crew import Crew
from tovuk_sqlite.history import History
from tovuk_sqlite.limits import CHECKPOINT_BYTES, OPEN_ENTRIES_MAX, READS_CONCURRENT_MAX
from tovuk_sqlite.store import copies, generation
from tovuk_sqlite.store.base import Database, Engine, Reader, Writer
from tovuk_sqlite.store.wal import Salts

T = TypeVar("T")

#: Nobody is told when a thread ends whose caller has left.
_LEFT_POLL_S = 0.005

_log = logging.getLogger(__name__)


class Pin:
    """A file that stays open. Nothing is copied back from its WAL before `follow` has read all of it."""

    def __init__(self, path: Path, chain: Chain) -> None:
        self.path = path
        self._chain = chain
        #: None: nothing at all is copied back.
        self.follow: Callable[[], None] | None = None

    def committed(self) -> tuple[Salts, int] | None:
        """How many frames of which run of the WAL are committed, where this process has written."""
        latest = self._chain.latest
        return None if latest is None else (latest.salts, latest.frames)


class _Open:
    """One generation's connections. A lane of the crew has each of them to itself."""

    __slots__ = (
        "at_once",
        "chain",
        "database",
        "opening",
        "path",
        "pins",
        "readers",
        "running",
        "suspended",
        "threads",
        "writer",
    )

    def __init__(self, database: Database, path: Path, chain: Chain) -> None:
        self.database = database
        self.path = path
        self.chain = chain
        self.readers: list[Reader] = []
        #: Those whose statement waits for its next page.
        self.suspended: set[Reader] = set()
        #: The event loop's own; opened on a thread, by one that has the lock.
        self.at_once: Reader | None = None
        self.opening = Lock()
        self.writer: Writer | None = None
        self.running = 0
        #: Those inside; one whose caller has left stays a while longer.
        self.threads: set[int] = set()
        self.pins: list[Pin] = []

    def close(self) -> None:
        while self.threads:
            time.sleep(_LEFT_POLL_S)
        for reader in (*self.readers, *self.suspended):
            reader.close()
        self.suspended.clear()
        if self.at_once is not None:
            self.at_once.close()
        if self.writer is not None:
            self.writer.close()


class Files:
    """Connections to the databases of one data folder, used on the crew's threads."""

    def __init__(self, engine: Engine, crew: Crew, history: History, data_dir: Path) -> None:
        self.engine = engine
        self._history = history
        self._crew = crew
        self._data_dir = data_dir
        self._open: OrderedDict[tuple[str, int], _Open] = OrderedDict()
        self._idle = asyncio.Condition()

    async def create(self, database: Database) -> int:
        """Make the database's file; its bytes."""
        size = await asyncio.to_thread(self.engine.create, generation.path(self._data_dir, database))
        self._history.chain(database.id, database.generation)
        return size

    async def reading(self, database: Database, job: Callable[[Reader], T]) -> T:
        """Run a job with a reader of the file, beside others."""

        def work(file: _Open) -> T:
            reader = file.readers.pop() if file.readers else self.engine.open_reader(file.path)
            try:
                return job(reader)
            finally:
                _put_back(file, reader)
                self._open_at_once(file)

        return await self._run(database, "read", READS_CONCURRENT_MAX, work)

    async def reading_on(self, database: Database, reader: Reader, job: Callable[[Reader], T]) -> T | None:
        """Run a job with a reader that `reading` left suspended; None where its file was closed since."""
        file = self._open.get((database.id, database.generation))
        if file is None or reader not in file.suspended:
            return None
        file.suspended.discard(reader)

        def work(file: _Open) -> T:
            try:
                return job(reader)
            finally:
                _put_back(file, reader)

        return await self._run(database, "read", READS_CONCURRENT_MAX, work)

    def let_go(self, database: Database, reader: Reader) -> None:
        """End what the reader has suspended."""
        file = self._open.get((database.id, database.generation))
        if file is not None and reader in file.suspended:
            file.suspended.discard(reader)
            reader.let_go()
            _put_back(file, reader)

    def reading_at_once(self, database: Database, job: Callable[[Reader], T]) -> T | None:
        """Run a job that ends at once on the loop's thread; None where `reading` has not opened the file before."""
        key = (database.id, database.generation)
        file = self._open.get(key)
        if file is None or file.at_once is None:
            return None
        self._open.move_to_end(key)
        return job(file.at_once)

    async def writing(self, database: Database, job: Callable[[Writer], T]) -> T:
        """Run a job with the writer of the file, alone."""

        def work(file: _Open) -> T:
            writer = self._writer(file)
            with self._history.writing(file.chain, writer):
                return job(writer)

        return await self._run(database, "write", 1, work)

    async def checkpoint(self) -> None:
        """Copy back the WALs that have grown, between writes."""

        def work(file: _Open) -> None:
            for pin in list(file.pins):
                if pin.follow is None:
                    return
                with copies.faults():
                    pin.follow()
            self._history.checkpoint(file.chain, self._writer(file))

        for key, file in list(self._open.items()):
            if file.chain.grown_bytes < CHECKPOINT_BYTES:
                continue
            await asyncio.to_thread(self._history.catch_up, file.chain)
            if self._open.get(key) is file:
                await self._run(file.database, "write", 1, work)

    def _writer(self, file: _Open) -> Writer:
        if file.writer is None:
            file.writer = self.engine.open_writer(file.path)
        return file.writer

    @asynccontextmanager
    async def pinned(self, database: Database) -> AsyncIterator[Pin]:
        """The database's file, and what has to be read before its WAL is copied back."""
        key = (database.id, database.generation)
        while (file := self._open.get(key)) is None:
            await self.reading(database, lambda _: None)
        file.running += 1
        pin = Pin(file.path, file.chain)
        file.pins.append(pin)
        try:
            # What copies back already ends before.
            await self.writing(database, lambda _: None)
            yield pin
        finally:
            file.pins.remove(pin)
            await self._let_go(file)

    async def close_database(self, database_id: str, generation: int | None = None) -> None:
        """Wait for what runs on one of its generations, or on any, and let go of it."""
        async with self._idle:
            for key in [key for key in self._open if key[0] == database_id and generation in (None, key[1])]:
                file = self._open[key]
                await self._idle.wait_for(partial(_is_idle, file))
                self._open.pop(key, None)
                await asyncio.to_thread(file.close)

    async def remove(self, database_id: str) -> None:
        """Remove every generation's file."""
        await self.close_database(database_id)
        await asyncio.to_thread(generation.remove, self._data_dir, database_id)

    async def close(self) -> None:
        """Let go of every file."""
        for database_id, _ in list(self._open):
            await self.close_database(database_id)

    def _open_at_once(self, file: _Open) -> None:
        with file.opening, suppress(TovukError):
            if file.at_once is None:
                file.at_once = self.engine.open_reader(file.path)

    async def _run(self, database: Database, kind: str, lane_max: int, work: Callable[[_Open], T]) -> T:
        key = (database.id, database.generation)
        file = self._open.get(key)
        if file is None:
            path = generation.path(self._data_dir, database)
            file = self._open[key] = _Open(database, path, self._history.chain(*key))
        self._open.move_to_end(key)
        file.running += 1

        def job() -> T:
            file.threads.add(get_ident())
            try:
                return work(file)
            finally:
                file.threads.discard(get_ident())

        running = asyncio.ensure_future(self._crew.run(database.account_id, (kind, key), lane_max, job))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            if not running.done():
                running.cancel()
            raise
        finally:
            await self._let_go(file)

    async def _let_go(self, file: _Open) -> None:
        file.running -= 1
        async with self._idle:
            self._idle.notify_all()
        while len(self._open) > OPEN_ENTRIES_MAX:
            key = next((key for key, other in self._open.items() if not other.running and not other.threads), None)
            if key is None:
                return
            closing = self._open.pop(key)
            try:
                await asyncio.to_thread(closing.close)
            except TovukError as error:
                # What it holds is durable, and the next to open it finds that.
                _log.warning("a file could not be closed in order: %s", error)


def _put_back(file: _Open, reader: Reader) -> None:
    if reader.suspended:
        file.suspended.add(reader)
    elif len(file.readers) < READS_CONCURRENT_MAX:
        file.readers.append(reader)
    else:
        reader.close()


def _is_idle(file: _Open) -> bool:
    return not file.running
