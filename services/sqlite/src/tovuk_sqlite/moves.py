"""Databases that move to another shard while they are used, and those that come.

A copy is sent while writes go on, then what the WAL got meanwhile, again and again. The rest is sent while new requests
wait; then control says that the database lies there, and who waited asks anew. Control's word alone decides whose a
database is. Each side notes durably that it is in doubt before that word is asked for, and asks again after a fault:
the shard it leaves does not serve it, nor does the other, before the answer is known.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

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
from tovuk_sqlite.ownership import Ownership
from tovuk_sqlite.room import STORAGE
from tovuk_sqlite.store import copies, generation
from tovuk_sqlite.store.base import Database, Engine
from tovuk_sqlite.store.catalog import SqliteCatalog, State, StillLeaving
from tovuk_sqlite.store.changes import Changes
from tovuk_sqlite.store.usage import FolderUsage
from tovuk_sqlite.units import STORE

#: Readings of the WAL while requests go on; what is left then is sent while they wait.
_ROUNDS_MAX: Final = 1_000
#: Pages that are few enough to be sent while requests wait.
_LAST_PAGES_MAX: Final = 256
#: How long a move waits for the writes that run before it is put off.
_WRITES_END_WITHIN_S: Final = 3.0

_log = logging.getLogger(__name__)


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
        data_dir: Path,
        *,
        own_archive: bool,
    ) -> None:
        """`own_archive` says that no other shard reads this folder's archive."""
        self._own_archive = own_archive
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
        self._data_dir = data_dir
        #: Held by who decides whose a database is.
        self._deciding = asyncio.Lock()
        directory.settle = self.settle

    async def resume(self) -> None:
        """Clear what the process before left; before anything moves."""
        await asyncio.to_thread(generation.clear_moving, self._data_dir)

    # What runs beside requests.

    async def depart(self) -> None:
        """Move everything that is to leave. Raises TovukError."""
        for move in await self._control.moves():
            database = self._catalog.get(move.database_id)
            if database is None:
                continue
            if self._backups.keeps(database):
                _log.warning("%s does not move while it has backups", database.id)
                continue
            other = self._other(move.address)
            try:
                await self._move(database, move, other)
            except (TovukError, TimeoutError) as error:
                _log.warning("the move of %s to %s is put off: %s", database.id, move.to, error)
            finally:
                await other.close()

    async def settle_all(self) -> None:
        """Find out whose the databases in doubt are, and remove what is left of those that are others'."""
        await self._settle(self._catalog.in_state(State.ARRIVING, State.LEAVING))
        async with self._deciding:
            for database in self._catalog.in_state(State.GONE):
                await self._backups.let_go(database, own_archive=self._own_archive)
                await self._files.remove(database.id)
                await self._catalog.forget(database)

    # What requests do.

    async def settle(self, service_id: str) -> None:
        """Find out whose the service's databases in doubt are. Raises what calls of control raise."""
        doubtful = self._catalog.in_state(State.ARRIVING, State.LEAVING)
        await self._settle([database for database in doubtful if database.service_id == service_id])

    async def receive(self, database: Database, pieces: AsyncIterator[tuple[int, bytes]], *, anew: bool) -> None:
        """Take pieces of an arriving database's file, by their offsets. Raises StorageFull, StoreUnavailable."""
        path = generation.arriving(self._data_dir, database.id)
        with copies.faults():
            if anew:
                await asyncio.to_thread(_begin, path)
            with path.open("r+b", buffering=0) as file:
                async for offset, data in pieces:
                    await asyncio.to_thread(_write_at, file.fileno(), offset, data)

    async def complete(self, database: Database, size_bytes: int) -> None:
        """All pieces of an arriving database are here: note it, durably. Raises StorageFull, StoreUnavailable."""
        path = generation.arriving(self._data_dir, database.id)

        def work() -> int:
            with copies.faults():
                os.truncate(path, size_bytes)
                # Its usage is told by the shard it leaves.
                copies.clean(self._files.engine, path)
                size = path.stat().st_size
                generation.take_place(self._data_dir, database, path)
                return size

        async with self._deciding:
            size = await asyncio.to_thread(work)
            try:
                await self._catalog.arrive(database, size)
            except StillLeaving as error:
                raise StoreUnavailable(retry_after_ms=1_000) from error

    # Leaving.

    async def _move(self, database: Database, move: Move, other: OtherShard) -> None:
        arriving = Arriving(
            database.id,
            database.name,
            database.service_id,
            database.account_id,
            database.created_at_ms,
            database.generation + 1,
        )
        copy = generation.leaving(self._data_dir, database.id)
        try:
            async with self._files.pinned(database) as path:
                await asyncio.to_thread(_copy, self._files.engine, path, copy)
                await other.send(arriving, _whole(copy), anew=True)
                changes = Changes(path, copy.stat().st_size)
                for _ in range(_ROUNDS_MAX):
                    pages = await asyncio.to_thread(changes.read)
                    await other.send(arriving, _once(pages))
                    if len(pages) < _LAST_PAGES_MAX:
                        break
                await self._hand_over(database, move, other, arriving, changes)
        finally:
            await asyncio.to_thread(generation.remove_file, copy)

    async def _hand_over(
        self, database: Database, move: Move, other: OtherShard, arriving: Arriving, changes: Changes
    ) -> None:
        async with AsyncExitStack() as held:
            async with asyncio.timeout(_WRITES_END_WITHIN_S):
                await held.enter_async_context(self._gates.closed(database.id))
            await held.enter_async_context(self._directory.held(database))
            if self._catalog.get(database.id) != database or self._backups.keeps(database):
                return
            await other.send(arriving, _rest(changes))
            await other.send(arriving, _once([]), size_bytes=changes.size_bytes)
            async with self._deciding:
                if not await self._catalog.turn(database, State.LIVE, State.LEAVING):
                    return
                try:
                    shard = await self._control.commit(database.id, move.to, self._ownership.fencing)
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
                    shard = await self._control.commit(database.id, self._control.shard, self._ownership.fencing)
                elif state is State.ARRIVING:
                    shard, moving_to = await self._located(database)
                    if shard != self._control.shard and moving_to == self._control.shard:
                        continue
                else:
                    continue
                await self._decided(database, state, shard)

    async def _located(self, database: Database) -> tuple[str, str]:
        try:
            return await self._control.locate(database.service_id, database.id)
        except RemoteError as error:
            if error.code == DatabaseNotFound.code:
                return "", ""
            raise

    async def _decided(self, database: Database, state: State, shard: str) -> None:
        """Control has said where a database in doubt lies."""
        here = shard == self._control.shard
        if here:
            await self._catalog.turn(database, state, State.LIVE)
        elif state is State.LEAVING:
            async with self._usage.leaving(database) as units:
                await self._catalog.depart(database, units)
        else:
            await self._files.remove(database.id)
            await self._catalog.forget(database)
        self._directory.forget(database)
        file = generation.path(self._data_dir, database)
        if self._usage.resize(database, file.stat().st_size if here else None):
            self._meters.level_changed(STORE, database.account_id, STORAGE)


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


async def _rest(changes: Changes) -> AsyncIterator[Iterable[tuple[int, bytes]]]:
    while pages := await asyncio.to_thread(changes.read):
        yield pages
