"""Databases that move to another shard while they are used, and those that come.

What the archive has of it is sent first, where the other shard has an archive of its own. Then a copy is sent while
writes go on, and what the WAL got meanwhile, again and again. The rest is sent while new requests wait; then control
says that the database lies there, and who waited asks anew. Control's word alone decides whose a database is. Each side
notes durably that it is in doubt before that word is asked for, and asks again after a fault: the shard it leaves does
not serve it, nor does the other, before the answer is known.
"""

import asyncio
import logging
import os
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from tovuk_kit.errors import RemoteError, StoreUnavailable, TovukError
from tovuk_kit.leases import Meters
from tovuk_sqlite.backups import Backups
from tovuk_sqlite.clients.control import ControlMoves, Move
from tovuk_sqlite.clients.shard import Arriving, OtherShard
from tovuk_sqlite.directory import Directory
from tovuk_sqlite.errors import DatabaseNotFound
from tovuk_sqlite.files import Files
from tovuk_sqlite.gates import Gates
from tovuk_sqlite.limits import CHUNK_BYTES
from tovuk_sqlite.mirroring import Mirror, Notes, Received
from tovuk_sqlite.ownership import Ownership
from tovuk_sqlite.room import STORAGE
from tovuk_sqlite.store import copies, generation
from tovuk_sqlite.store.archive import Archive
from tovuk_sqlite.store.backups import Kept
from tovuk_sqlite.store.base import Database, Engine
from tovuk_sqlite.store.catalog import SqliteCatalog, State
from tovuk_sqlite.store.changes import Changes
from tovuk_sqlite.store.usage import FolderUsage
from tovuk_sqlite.units import STORE

T = TypeVar("T")

#: Readings of the WAL while requests go on; what is left then is sent while they wait.
_ROUNDS_MAX: Final = 1_000
#: Pages that are few enough to be sent while requests wait.
_LAST_PAGES_MAX: Final = 256
#: How long a move waits for the writes that run, and how long requests wait for its last steps, before it is put off.
_WRITES_END_WITHIN_S: Final = 3.0
_LAST_STEPS_WITHIN_S: Final = 5.0
#: How often those are begun again because the file has changed.
_ENDS_MAX: Final = 5
#: Seconds until a move that failed is tried again, at first, and at last: each time the whole file is copied.
_AGAIN_FIRST_S: Final = 1.0
_AGAIN_LAST_S: Final = 60.0

_log = logging.getLogger(__name__)


class _PutOff(NamedTuple):
    """Why a move was put off, as it was logged, and for how long."""

    why: str = ""
    pause_s: float = 0.0
    until_s: float = 0.0


class Moves:
    """The databases of one shard that leave it, and those that arrive."""

    def __init__(
        self,
        catalog: SqliteCatalog,
        files: Files,
        usage: FolderUsage,
        directory: Directory,
        gates: Gates,
        backups: Backups,
        meters: Meters,
        control: ControlMoves,
        ownership: Ownership,
        other: Callable[[str], OtherShard],
        archive: Archive,
        data_dir: Path,
    ) -> None:
        self._catalog = catalog
        self._files = files
        self._usage = usage
        self._directory = directory
        self._gates = gates
        self._backups = backups
        self._meters = meters
        self._control = control
        self._ownership = ownership
        self._other = other
        self._archive = archive
        self._data_dir = data_dir
        #: The attempt in which a database comes, and how many of its objects are being put into the archive.
        self._attempts: dict[str, str] = {}
        self._taking: Counter[str] = Counter()
        self._running: set[asyncio.Task[None]] = set()
        self._notes = Notes(archive, control.shard)
        #: What may be claimed in the archive; and whether that was asked what a process before had claimed.
        self._claimed: set[str] = set()
        self._claims_known = False
        #: Why databases that are to leave are still here.
        self._put_off: dict[str, _PutOff] = {}
        #: Held by who decides whose a database is.
        self._deciding = asyncio.Lock()
        directory.settle = self.settle

    async def resume(self) -> None:
        """Clear what the process before left; before anything moves."""
        await asyncio.to_thread(generation.clear_moving, self._data_dir)

    # What runs beside requests.

    async def depart(self) -> None:
        """Move everything that is to leave. Raises TovukError."""
        moves = await self._control.moves()
        self._put_off = {move.database_id: self._put_off.get(move.database_id, _PutOff()) for move in moves}
        for move in moves:
            database, before = self._catalog.get(move.database_id), self._put_off[move.database_id]
            if database is None or time.monotonic() < before.until_s:
                continue
            with self._backups.left_alone(database):
                why = self._backups.holds_back(database)
                pause_s = 0.0
                if not why:
                    why = await self._depart(database, move)
                    pause_s = min(max(_AGAIN_FIRST_S, 2 * before.pause_s), _AGAIN_LAST_S) if why else 0.0
            if why and why != before.why:
                _log.warning("the move of %s to %s is put off: %s", database.id, move.to, why)
            self._put_off[database.id] = _PutOff(why, pause_s, time.monotonic() + pause_s)

    async def settle_all(self) -> None:
        """Find out whose the databases in doubt are, and remove what is left of those that are others'."""
        await self._settle(self._catalog.in_state(State.ARRIVING, State.LEAVING, State.COMING))
        for database in self._catalog.in_state(State.GONE):
            # What comes into the archive afterwards would stay there.
            if not self._taking[database.id]:
                await self._forget(database)
        await self._clear_notes()

    # What requests do.

    async def settle(self, service_id: str) -> None:
        """Find out whose the service's databases in doubt are. Raises what calls of control raise."""
        doubtful = self._catalog.in_state(State.ARRIVING, State.LEAVING)
        await self._settle([database for database in doubtful if database.service_id == service_id])

    async def begin(self, database: Database, attempt: str, probe: str) -> bool:
        """A database begins to come here; whether what the other shard's archive has of it is in ours.

        `probe` is the name of an object that is in the other's now. Raises StoreUnavailable, StorageFull.
        """
        folder, _, name = f"{database.id}/{probe}".rpartition("/")
        shared = name in await asyncio.to_thread(self._archive.names, folder)
        async with self._deciding:
            state = self._catalog.state(database.id)
            if state not in (None, State.COMING, State.ARRIVING):
                # The folder has not let go of a database that comes back.
                raise StoreUnavailable(retry_after_ms=1_000)
            came_before = state is not None and self._catalog.moves_with_archive(database)
            if not shared:
                self._claimed.add(database.id)
                await asyncio.to_thread(self._make_way, database, came_before=came_before)
            await self._catalog.come(database, with_archive=not shared)
            self._attempts[database.id] = attempt
        return shared

    def _make_way(self, database: Database, *, came_before: bool) -> None:
        """Note that the database comes with its objects, and remove what a lost folder has left of it."""
        if not came_before and self._archive.names(database.id):
            if not self._notes.own().get(database.id):
                # They would be mixed with those that come, and be removed if it did not come after all.
                _log.error("%s cannot move here: the archive has other objects of it", database.id)
                raise StoreUnavailable(retry_after_ms=1_000)
            self._archive.remove_folder(database.id)
        if not self._notes.claim(database.id):
            # It was to come to another shard of this archive, which removes what has come before that.
            raise StoreUnavailable(retry_after_ms=1_000)
        self._ownership.check()
        self._notes.note(database.id)

    async def missing(self, database: Database, attempt: str, folder: str, names: Sequence[str]) -> list[str]:
        """Those of the names within a folder of a coming database that the archive lacks. Raises StoreUnavailable."""
        self._check(database, attempt)
        there = set(await asyncio.to_thread(self._archive.names, f"{database.id}/{folder}"))
        self._check(database, attempt)
        return [name for name in names if name not in there]

    async def put(
        self, database: Database, attempt: str, name: str, size_bytes: int, sha256: str, chunks: AsyncIterator[bytes]
    ) -> None:
        """Take an object of a coming database into the archive. Raises StorageFull, StoreUnavailable."""
        part = generation.moving_object(self._data_dir, database.id)
        received = Received(part)
        try:
            await received.take(chunks)
            if not received.is_whole(size_bytes, sha256):
                raise StoreUnavailable(retry_after_ms=1_000)
            self._check(database, attempt)
            await self._to_its_end(self._put(database, name, part))
        finally:
            await asyncio.to_thread(part.unlink, missing_ok=True)

    async def _put(self, database: Database, name: str, part: Path) -> None:
        self._taking[database.id] += 1
        try:
            await asyncio.to_thread(self._archive.put_file, f"{database.id}/{name}", part)
        finally:
            self._taking[database.id] -= 1

    async def receive(
        self, database: Database, attempt: str, pieces: AsyncIterator[tuple[int, bytes]], *, anew: bool
    ) -> None:
        """Take pieces of a coming database's file, by their offsets. Raises StorageFull, StoreUnavailable."""
        self._check(database, attempt)
        path = generation.arriving(self._data_dir, database.id)
        with copies.faults():
            if anew:
                await asyncio.to_thread(_begin, path)
            with path.open("r+b", buffering=0) as file:
                async for offset, data in pieces:
                    await asyncio.to_thread(_write_at, file.fileno(), offset, data)

    async def complete(self, database: Database, attempt: str, size_bytes: int, kept: Kept) -> None:
        """All of a coming database is here: note it, durably. Raises StorageFull, StoreUnavailable."""
        await self._to_its_end(self._complete(database, attempt, size_bytes, kept))

    async def _complete(self, database: Database, attempt: str, size_bytes: int, kept: Kept) -> None:
        path = generation.arriving(self._data_dir, database.id)

        def work() -> int:
            with copies.faults():
                os.truncate(path, size_bytes)
                copies.settle(path)
                generation.take_place(self._data_dir, database, path)
            writer = self._files.engine.open_writer(generation.path(self._data_dir, database))
            try:
                # Its usage is told by the shard it leaves. In the WAL, as the first commit of the history here.
                copies.forget_usage(writer)
                return writer.storage_bytes()
            finally:
                writer.close()

        async with self._deciding:
            self._check(database, attempt)
            size = await asyncio.to_thread(work)
            with_archive = self._catalog.moves_with_archive(database)
            await self._backups.arrive(database, kept, with_archive=with_archive)
            await self._catalog.arrive(database, size)
            del self._attempts[database.id]

    async def _to_its_end(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it to its end: a thread goes on when its caller leaves, and nobody may take it for over."""
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        await asyncio.shield(task)

    def _check(self, database: Database, attempt: str) -> None:
        """Raises StoreUnavailable unless this is the attempt in which the database comes."""
        if self._attempts.get(database.id) != attempt:
            raise StoreUnavailable(retry_after_ms=1_000)

    # Leaving.

    async def _depart(self, database: Database, move: Move) -> str:
        """Move it; why it is put off, or empty."""
        other = self._other(move.address)
        try:
            await self._move(database, move, other)
        except TimeoutError:
            return "its last steps take too long"
        except TovukError as error:
            return str(error)
        finally:
            await other.close()
        return ""

    async def _move(self, database: Database, move: Move, other: OtherShard) -> None:
        arriving = Arriving(replace(database, generation=database.generation + 1), secrets.token_hex(16))
        mirror = Mirror(self._archive, other, arriving, database.generation, self._data_dir)
        # From now on it may lie elsewhere, and its objects be those of another shard of this archive.
        await asyncio.to_thread(self._notes.remove, database.id)
        with_archive = await mirror.begin()
        if with_archive:
            await mirror.send()
        copy = generation.leaving(self._data_dir, database.id)
        try:
            async with self._files.pinned(database) as pin:
                await asyncio.to_thread(_copy, self._files.engine, pin.path, copy)
                spill = generation.leaving_changes(self._data_dir, database.id)
                changes = Changes(pin.path, copy.stat().st_size, spill, pin.committed)
                try:
                    # What an earlier process left in the WAL takes long to check, and later the writer waits for this.
                    await asyncio.to_thread(_follow, changes)
                    pin.follow = changes.follow
                    await other.send(arriving, _whole(copy), anew=True)
                    await _catch_up(other, arriving, changes)
                    await self._backups.ship(database)
                    if with_archive:
                        await mirror.send()
                    await _catch_up(other, arriving, changes)
                    leaving = _Leaving(database, move, other, arriving, changes, mirror if with_archive else None)
                    await self._hand_over(leaving)
                finally:
                    await asyncio.to_thread(changes.close)
        finally:
            await asyncio.to_thread(generation.remove_file, copy)

    async def _hand_over(self, leaving: "_Leaving") -> None:
        database = leaving.database
        async with AsyncExitStack() as held:
            async with asyncio.timeout(_WRITES_END_WITHIN_S):
                await held.enter_async_context(self._gates.closed(database.id))
            await held.enter_async_context(self._directory.held(database))
            if self._catalog.get(database.id) != database or self._backups.holds_back(database):
                return
            async with asyncio.timeout(_LAST_STEPS_WITHIN_S):
                for _ in range(_ENDS_MAX):
                    kept = await self._backups.leave(database)
                    await leaving.other.send(leaving.arriving, _rest(leaving.changes))
                    # Usage that metering confirms is removed from the file meanwhile: the archive and the other shard
                    # have to have the same pages.
                    if self._backups.is_at_end(database):
                        break
                else:
                    raise TimeoutError
                if leaving.mirror is not None:
                    await leaving.mirror.send()
                await leaving.other.complete(leaving.arriving, leaving.changes.size_bytes, kept)
            async with self._deciding:
                if not await self._catalog.leave(database, with_archive=leaving.mirror is not None):
                    return
                try:
                    shard = await self._control.commit(database.id, leaving.move.to, self._ownership.fencing)
                except TovukError as error:
                    _log.warning("whether %s has moved is asked again: %s", database.id, error)
                    return
                await self._decided(database, State.LEAVING, shard)
        _log.info("database %s lies at %s now", database.id, shard)

    # Deciding whose it is.

    async def _settle(self, doubtful: Iterable[Database]) -> None:
        for database in doubtful:
            async with self._deciding:
                state = self._catalog.state(database.id)
                if state is State.LEAVING:
                    # Whatever is still on its way to control comes too late after this.
                    called_off = self._control.commit(database.id, self._control.shard, self._ownership.fencing)
                    shard = await _unless_deleted(called_off, "")
                elif state in (State.ARRIVING, State.COMING):
                    located = self._control.locate(database.service_id, database.id)
                    shard, moving_to = await _unless_deleted(located, ("", ""))
                    if shard != self._control.shard and moving_to == self._control.shard:
                        continue
                    self._attempts.pop(database.id, None)
                else:
                    continue
                await self._decided(database, state, shard)

    async def _decided(self, database: Database, state: State, shard: str) -> None:
        """Control has said where a database in doubt lies."""
        here = shard == self._control.shard
        if here:
            if state is State.ARRIVING:
                self._backups.take_over(database)
            else:
                self._backups.go_on(database)
            await self._catalog.stay(database, state)
        elif state is State.LEAVING:
            async with self._usage.leaving(database) as units:
                await self._catalog.depart(database, units)
        else:
            await self._catalog.give_up(database)
        self._directory.forget(database)
        file = generation.path(self._data_dir, database)
        if self._usage.resize(database, file.stat().st_size if here else None):
            self._meters.level_changed(STORE, database.account_id, STORAGE)

    async def _clear_notes(self) -> None:
        """Remove notes of databases that have come or do not come, and what a lost folder has left of such a one."""
        if not self._claims_known:
            self._claimed.update(await asyncio.to_thread(self._notes.own))
            self._claims_known = True
        states = {database_id: self._catalog.state(database_id) for database_id in self._claimed}
        undecided = (State.COMING, State.ARRIVING, State.GONE)
        due = {database_id: state for database_id, state in states.items() if state not in undecided}
        if not due:
            return
        _, placed = await self._control.databases()
        here = {one.id for one in placed}
        for database_id, state in due.items():
            known = state is not None or database_id in here
            async with self._deciding:
                if self._catalog.state(database_id) is state:
                    self._ownership.check()
                    await asyncio.to_thread(self._clear_note, database_id, known=known)
                    self._claimed.discard(database_id)

    def _clear_note(self, database_id: str, *, known: bool) -> None:
        # What is claimed alone may have been claimed by two, and be there for the other.
        if not known and self._notes.own().get(database_id):
            self._archive.remove_folder(database_id)
        self._notes.remove(database_id)

    async def _forget(self, database: Database) -> None:
        """Remove what is here of a database that lies elsewhere."""
        await self._backups.let_go(database, with_archive=self._catalog.moves_with_archive(database))
        await self._files.remove(database.id)
        await asyncio.to_thread(generation.remove_file, generation.arriving(self._data_dir, database.id))
        await self._catalog.forget(database)


class _Leaving(NamedTuple):
    """A move whose last steps are left."""

    database: Database
    move: Move
    other: OtherShard
    arriving: Arriving
    changes: Changes
    #: None where both shards have one archive.
    mirror: Mirror | None


async def _unless_deleted(answer: Awaitable[T], deleted: T) -> T:
    """What control says of a database, which may have been deleted."""
    try:
        return await answer
    except RemoteError as error:
        if error.code == DatabaseNotFound.code:
            return deleted
        raise


def _begin(path: Path) -> None:
    generation.remove_file(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)


def _write_at(fd: int, offset: int, data: bytes) -> None:
    with copies.faults():
        rest = memoryview(data)
        while rest:
            done = os.pwrite(fd, rest, offset)
            offset, rest = offset + done, rest[done:]


def _copy(engine: Engine, path: Path, copy: Path) -> None:
    with copies.faults():
        generation.remove_file(copy)
        copy.parent.mkdir(parents=True, exist_ok=True)
        engine.copy(path, copy)


async def _whole(copy: Path) -> AsyncIterator[Iterable[tuple[int, bytes]]]:
    with copy.open("rb") as file:
        offset = 0
        while data := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield [(offset, data)]
            offset += len(data)


async def _once(pages: Iterable[tuple[int, bytes]]) -> AsyncIterator[Iterable[tuple[int, bytes]]]:
    yield pages


async def _catch_up(other: OtherShard, arriving: Arriving, changes: Changes) -> None:
    """Send what changed, until little is left."""
    for _ in range(_ROUNDS_MAX):
        pages = await asyncio.to_thread(_next, changes)
        await other.send(arriving, _once(pages))
        if len(pages) < _LAST_PAGES_MAX:
            break


async def _rest(changes: Changes) -> AsyncIterator[Iterable[tuple[int, bytes]]]:
    while pages := await asyncio.to_thread(_next, changes):
        yield pages


def _follow(changes: Changes) -> None:
    with copies.faults():
        changes.follow()


def _next(changes: Changes) -> list[tuple[int, bytes]]:
    with copies.faults():
        return changes.take()
