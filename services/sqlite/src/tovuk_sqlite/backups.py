"""Backups of databases and restores of them: answered at once, made beside the requests, each with a status.

A backup is the database as of one moment, checked before it is called ready. A restore makes the next generation
beside the current one, then flips the catalog's pointer while no write is under way. What it replaces, with every write
that was ever answered, becomes the safety backup. The catalog says what is under way: a new process goes on there.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from tovuk_kit import tasks
from tovuk_kit.clock import Clock
from tovuk_kit.errors import StorageFull, StoreUnavailable, TovukError
from tovuk_kit.ids import new_id
from tovuk_kit.leases import Meters
from tovuk_sqlite.chain import Origin
from tovuk_sqlite.directory import Directory, Target
from tovuk_sqlite.errors import (
    BackupInterrupted,
    BackupNotFound,
    BackupNotReady,
    BackupUnderWay,
    DatabaseNotFound,
    HistoryDamaged,
    MomentUnavailable,
    RestoreUnderWay,
)
from tovuk_sqlite.files import Files
from tovuk_sqlite.gates import Gates
from tovuk_sqlite.history import History
from tovuk_sqlite.limits import BACKUP_DAYS, BACKUP_ENTRIES_MAX, BACKUPS_CONCURRENT_ENTRIES_MAX
from tovuk_sqlite.room import STORAGE, Room
from tovuk_sqlite.store import copies, expiry, generation
from tovuk_sqlite.store.archive import Archive
from tovuk_sqlite.store.backups import (
    Backup,
    BackupRows,
    Kept,
    Kind,
    Moved,
    Restore,
    Status,
    UnderWay,
    fetch,
    object_of,
    objects,
)
from tovuk_sqlite.store.base import Database
from tovuk_sqlite.store.catalog import SqliteCatalog, State
from tovuk_sqlite.store.rebuild import NoHistory
from tovuk_sqlite.store.segments import Damaged
from tovuk_sqlite.store.usage import FolderUsage
from tovuk_sqlite.units import STORE

_DAY_MS: Final = 86_400_000
#: Seconds until a safety backup that could not be stored is tried again; what it copies is kept until then.
RETRY_S: Final = 5.0

_log = logging.getLogger(__name__)


class Listed(NamedTuple):
    """What a database can be put back to."""

    backups: Sequence[Backup]
    restores: Sequence[Restore]
    #: From this moment on to any; None where there is no history, or the archive is away.
    earliest_ms: int | None


class Backups:
    """The backups and restores of all databases of one data folder."""

    def __init__(
        self,
        catalog: SqliteCatalog,
        files: Files,
        usage: FolderUsage,
        directory: Directory,
        gates: Gates,
        history: History,
        archive: Archive,
        meters: Meters,
        clock: Clock,
        data_dir: Path,
    ) -> None:
        self._catalog = catalog
        self._rows = BackupRows(catalog.file)
        self._files = files
        self._usage = usage
        self._directory = directory
        self._gates = gates
        self._history = history
        self._archive = archive
        self._meters = meters
        self._clock = clock
        self._data_dir = data_dir
        self._hands = asyncio.Semaphore(BACKUPS_CONCURRENT_ENTRIES_MAX)
        #: Held while a restore changes the database: who hears that it is ready queries the new generation.
        self._flipping = asyncio.Lock()
        #: What is under way, by database.
        self._jobs: dict[str, set[asyncio.Task[None]]] = {}
        #: Whose history is expired and compacted just now; and whose is not meanwhile.
        self._tended = ""
        self._left_alone: set[str] = set()

    # What callers ask for.

    async def create(self, target: Target, plan: str) -> Backup:
        """A new backup, noted and on its way. Raises DatabaseNotFound, BackupUnderWay."""
        async with self._in_place(target) as database:
            backup = self._noted(database, Kind.MANUAL, plan)
            try:
                await self._rows.add_backup(backup)
            except UnderWay:
                raise BackupUnderWay from None
            self._start(database.id, self._make_new(backup, plan))
        return backup

    async def list(self, target: Target) -> Listed:
        """The database's backups and restores, the newest first. Raises DatabaseNotFound."""
        database = await self._directory.resolve(target)
        try:
            earliest_ms = await asyncio.to_thread(expiry.earliest_ms, self._archive, database.id)
        except (StoreUnavailable, StorageFull):
            earliest_ms = None
        async with self._flipping:
            return Listed(self._rows.backups(database.id), self._rows.restores(database.id), earliest_ms)

    async def restore(self, target: Target, plan: str, backup_id: str) -> Restore:
        """A restore of a backup, noted and on its way.

        Raises DatabaseNotFound, BackupNotFound, BackupNotReady, RestoreUnderWay.
        """
        async with self._in_place(target) as database:
            backup = self._rows.backup(backup_id)
            if backup is None or backup.database_id != database.id:
                raise BackupNotFound
            if backup.status is not Status.READY:
                raise BackupNotReady(status=backup.status)
            return await self._begin(database, plan, backup.id, 0)

    async def restore_moment(self, target: Target, plan: str, at_ms: int) -> Restore:
        """A restore of what the database was at a moment, noted and on its way.

        Raises DatabaseNotFound, MomentUnavailable, RestoreUnderWay, StoreUnavailable.
        """
        database = await self._directory.resolve(target)
        number = self._generation_at(database, at_ms)
        earliest_ms = await asyncio.to_thread(expiry.earliest_ms, self._archive, database.id, number)
        if at_ms > self._clock.wall_ms() or earliest_ms is None or at_ms < earliest_ms:
            raise MomentUnavailable
        async with self._in_place(target) as database:
            return await self._begin(database, plan, "", at_ms)

    @asynccontextmanager
    async def _in_place(self, target: Target) -> AsyncIterator[Database]:
        """The database that is meant; it is neither replaced meanwhile nor moved to another shard."""
        database_id = (await self._directory.resolve(target)).id
        await self._gates.enter(database_id)
        try:
            yield await self._directory.resolve(target)
        finally:
            self._gates.leave(database_id)

    async def _begin(self, database: Database, plan: str, backup_id: str, at_ms: int) -> Restore:
        safety = self._noted(database, Kind.SAFETY, plan)
        restore = Restore(
            id=new_id("sqlite_restore"),
            database_id=database.id,
            plan=plan,
            backup_id=backup_id,
            at_ms=at_ms,
            safety_id=safety.id,
            status=Status.CREATING,
            reason="",
            created_at_ms=safety.created_at_ms,
            ended_at_ms=0,
            expires_at_ms=safety.expires_at_ms,
            generation=database.generation + 1,
        )
        try:
            await self._rows.add_restore(restore, safety)
        except UnderWay:
            raise RestoreUnderWay from None
        self._start(database.id, self._restore_new(restore, safety))
        return restore

    def _generation_at(self, database: Database, at_ms: int) -> int:
        """The generation the database was at."""
        later = [number for number, ended_ms in self._rows.ends(database.id).items() if ended_ms > at_ms]
        return min(later, default=database.generation)

    # What moves ask for.

    def holds_back(self, database: Database) -> str:
        """Why the database cannot move to another shard now; empty where it can."""
        if self._jobs.get(database.id):
            return "a backup or a restore of it is under way"
        if self._tended == database.id:
            return "its history is being compacted"
        for backup in self._rows.backups(database.id):
            if backup.status is Status.CREATING:
                return "a backup or a restore of it is under way"
            if backup.kind is Kind.SAFETY and backup.status is Status.FAILED:
                replaced = generation.numbered(self._data_dir, database.id, backup.generation)
                if backup.generation != database.generation and replaced.exists():
                    return "what a restore replaced is corrupt, and nowhere else than in this folder"
        return ""

    @contextmanager
    def left_alone(self, database: Database) -> Iterator[None]:
        """Meanwhile no objects of its history are removed or put together."""
        self._left_alone.add(database.id)
        try:
            yield
        finally:
            self._left_alone.discard(database.id)

    async def ship(self, database: Database) -> None:
        """Bring what was committed before the call into the archive, and a base where one is wanted."""
        chain = self._history.chain(database.id, database.generation)
        await asyncio.to_thread(self._history.ship, chain)
        await asyncio.to_thread(self._history.take_base, chain)

    async def leave(self, database: Database) -> Kept:
        """The rest of a database's history, which nobody writes, is in the archive; what is known of it.

        Raises StoreUnavailable, StorageFull.
        """
        chain = self._history.chain(database.id, database.generation)
        ended_ms = await asyncio.to_thread(self._history.finish, chain, self._clock.wall_ms())
        kept = self._rows.kept(database.id)
        return kept._replace(ends={**kept.ends, database.generation: ended_ms})

    async def arrive(self, database: Database, kept: Kept, *, with_archive: bool) -> None:
        """What is known of a database that moves here. With its archive, objects that are not known are removed."""
        if with_archive:
            known = {backup.id for backup in kept.backups}
            for name in await asyncio.to_thread(self._archive.names, objects(database.id)):
                if name.partition("-")[0] not in known:
                    await asyncio.to_thread(self._archive.remove, f"{objects(database.id)}/{name}")
        await self._rows.put(database.id, kept)

    def is_at_end(self, database: Database) -> bool:
        """Whether the archive still has all of the database since `leave`."""
        return self._history.is_at_end(self._history.chain(database.id, database.generation))

    def go_on(self, database: Database) -> None:
        """The database is this shard's still: its history goes on here."""
        self._history.chain(database.id, database.generation)

    def take_over(self, database: Database) -> None:
        """The database is this shard's now: its history goes on here where it ended at the other."""
        before_ms = self._rows.ends(database.id).get(database.generation - 1, 0)
        self._history.chain(database.id, database.generation, Origin.MOVE, before_ms)

    async def let_go(self, database: Database, *, with_archive: bool) -> None:
        """The database is another shard's; what this shard's own archive has of it is removed."""
        await asyncio.to_thread(self._history.drop, database.id)
        if with_archive:
            await asyncio.to_thread(self._archive.remove_folder, database.id)
        await self._rows.forget_database(database.id)

    # What runs beside requests.

    async def resume(self) -> None:
        """Go on where the process before ended; before anything else uses the folder."""
        backups, restores = self._rows.unfinished()
        await asyncio.to_thread(self._sweep, backups, restores)
        for database_id, generations in self._rows.kept_generations().items():
            for number in generations:
                if generation.numbered(self._data_dir, database_id, number).exists():
                    self._history.chain(database_id, number)
        for database in self._catalog.in_state(State.LIVE):
            made = [one.generation for one in self._rows.restores(database.id) if one.status is Status.READY]
            origin = Origin.RESTORE if database.generation in made else Origin.FILE
            self._history.chain(database.id, database.generation, origin)
        for restore in restores:
            self._start(restore.database_id, self._restore(restore))
        pending = {restore.safety_id for restore in restores}
        for backup in backups:
            staged = generation.staged(self._data_dir, backup.database_id, backup.id)
            if backup.kind is Kind.MANUAL and not staged.exists():
                # A copy made now would not be of the moment that was asked for.
                await self._rows.set_failed(backup.id, BackupInterrupted.code)
            elif backup.id not in pending:
                self._start(backup.database_id, self._make(backup))

    async def expire(self) -> None:
        """Remove what need not be kept any longer."""
        now_ms = self._clock.wall_ms()
        expired = self._rows.expired(now_ms)
        await self._remove(expired)
        await self._rows.forget(expired, now_ms)

    async def tend_history(self) -> None:
        """Remove what no moment needs that can still be asked for, and compact the rest."""
        for database in self._catalog.in_state(State.LIVE):
            if database.id in self._left_alone or self._catalog.get(database.id) is None:
                continue
            days = BACKUP_DAYS.get(self._catalog.plan(database.account_id), max(BACKUP_DAYS.values()))
            until_ms = self._clock.wall_ms() - days * _DAY_MS
            self._tended = database.id
            try:
                ended = self._rows.ends(database.id)
                await asyncio.to_thread(expiry.expire, self._archive, database.id, ended, until_ms)
                await asyncio.to_thread(self._history.compact, database.id, database.generation)
            finally:
                self._tended = ""
            await self._rows.forget_ends(database.id, until_ms)

    async def forget(self, database: Database) -> bool:
        """Remove everything of a dropped database; whether nothing is left."""
        if self._jobs.get(database.id):
            return False
        await asyncio.to_thread(self._history.drop, database.id)
        await asyncio.to_thread(self._archive.remove_folder, database.id)
        await self._rows.forget_database(database.id)
        return True

    async def close(self) -> None:
        """End what is under way; the next process goes on with it."""
        await tasks.end([job for jobs in self._jobs.values() for job in jobs])

    # Jobs.

    def _start(self, database_id: str, job: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(job)
        jobs = self._jobs.setdefault(database_id, set())
        jobs.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            jobs.discard(task)
            if not jobs and self._jobs.get(database_id) is jobs:
                del self._jobs[database_id]
            if not task.cancelled() and task.exception() is not None:
                _log.error("a backup or restore of %s was left", database_id, exc_info=task.exception())

        task.add_done_callback(ended)

    async def _make_new(self, backup: Backup, plan: str) -> None:
        await self._make_room(backup, plan)
        await self._make(backup)

    async def _restore_new(self, restore: Restore, safety: Backup) -> None:
        await self._make_room(safety, restore.plan)
        await self._restore(restore)

    async def _make_room(self, backup: Backup, plan: str) -> None:
        """The oldest of its kind go, where the plan keeps no more."""
        limit = BACKUP_ENTRIES_MAX.get(plan, BACKUP_ENTRIES_MAX["free"])
        of_kind = [other for other in self._rows.backups(backup.database_id) if other.kind is backup.kind]
        too_many = [other for other in of_kind[limit:] if other.status is not Status.CREATING]
        try:
            await self._remove(too_many)
            await self._rows.forget(too_many, 0)
        except (StoreUnavailable, StorageFull) as error:
            _log.warning("old backups of %s go later: %s", backup.database_id, error)

    async def _make(self, backup: Backup) -> None:
        while True:
            try:
                async with self._hands:
                    size, sha256 = await asyncio.to_thread(self._store, backup)
                await self._rows.set_ready(backup.id, size, sha256)
                break
            except TovukError as error:
                _log.warning("backup %s of %s: %s", backup.id, backup.database_id, error, exc_info=error.__cause__)
                waits = backup.kind is Kind.SAFETY and isinstance(error, StoreUnavailable | StorageFull)
                if not waits or self._catalog.get(backup.database_id) is None:
                    await self._rows.set_failed(backup.id, error.code)
                    return
            await asyncio.sleep(RETRY_S)
        staged = generation.staged(self._data_dir, backup.database_id, backup.id)
        await asyncio.to_thread(generation.remove_file, staged)
        if backup.kind is Kind.SAFETY:
            await self._retire(backup.database_id, backup.generation)

    async def _restore(self, restore: Restore) -> None:
        try:
            database = self._catalog.get(restore.database_id)
            if database is None:
                raise DatabaseNotFound
            async with self._hands:
                size = await asyncio.to_thread(self._prepare, restore)
            await self._flip(database, restore, size)
        except TovukError as error:
            _log.warning("restore %s of %s: %s", restore.id, restore.database_id, error, exc_info=error.__cause__)
            await self._rows.set_restore_failed(restore, error.code, self._clock.wall_ms())
            await asyncio.to_thread(self._undo, restore)
            return
        safety = self._rows.backup(restore.safety_id)
        if safety is not None:
            await self._make(safety)

    async def _flip(self, database: Database, restore: Restore, size: int) -> None:
        """Put the new generation in the old one's place."""
        room = Room(self._usage, self._meters, database, restore.plan)
        await room.hold(size)
        try:
            async with self._gates.closed(database.id), self._flipping:
                try:
                    async with self._usage.leaving(database) as units:
                        await self._put_in_place(database, restore, size, units)
                except Moved:
                    raise DatabaseNotFound from None
                self._directory.forget(database)
                self._usage.resize(database, size)
                self._history.chain(database.id, restore.generation, Origin.RESTORE)
        finally:
            room.end()
        self._meters.level_changed(STORE, database.account_id, STORAGE)

    async def _put_in_place(
        self, database: Database, restore: Restore, size: int, units: Sequence[tuple[int, int, int]]
    ) -> None:
        try:
            await self._rows.flip(database, restore, size, units, self._clock.wall_ms())
        except StoreUnavailable:
            # The commit may have happened; nothing may be written before it is known to which generation.
            current = await self._certain(database.id)
            if current is None or current.generation != restore.generation:
                raise

    async def _certain(self, database_id: str) -> Database | None:
        """What the catalog says, as soon as it says something."""
        while True:
            try:
                return self._catalog.get(database_id)
            except StoreUnavailable:
                await asyncio.sleep(RETRY_S)

    async def _retire(self, database_id: str, number: int) -> None:
        """Remove a generation that nobody reads any more, now that the archive has it."""
        await asyncio.to_thread(self._history.drop, database_id, number)
        await self._files.close_database(database_id, number)
        file = generation.numbered(self._data_dir, database_id, number)
        await asyncio.to_thread(generation.remove_file, file)

    async def _remove(self, backups: Sequence[Backup]) -> None:
        for backup in backups:
            for name in await asyncio.to_thread(self._archive.names, objects(backup.database_id)):
                # One that failed may be there.
                if name.startswith(f"{backup.id}-"):
                    await asyncio.to_thread(self._archive.remove, f"{objects(backup.database_id)}/{name}")
            current = self._catalog.get(backup.database_id)
            if backup.kind is Kind.SAFETY and current is not None and current.generation != backup.generation:
                await self._retire(backup.database_id, backup.generation)

    def _noted(self, database: Database, kind: Kind, plan: str) -> Backup:
        now_ms = self._clock.wall_ms()
        return Backup(
            id=new_id("sqlite_backup"),
            database_id=database.id,
            kind=kind,
            status=Status.CREATING,
            reason="",
            created_at_ms=now_ms,
            expires_at_ms=now_ms + BACKUP_DAYS.get(plan, BACKUP_DAYS["free"]) * _DAY_MS,
            generation=database.generation,
        )

    # On a thread.

    def _store(self, backup: Backup) -> tuple[int, str]:
        """Bring a copy into the archive; its bytes and their SHA-256."""
        staged = generation.staged(self._data_dir, backup.database_id, backup.id)
        engine = self._files.engine
        if backup.kind is Kind.SAFETY:
            chain = self._history.chain(backup.database_id, backup.generation)
            self._history.finish(chain, backup.created_at_ms)
        with copies.faults():
            if not staged.exists():
                part = generation.part(staged)
                engine.copy(generation.numbered(self._data_dir, backup.database_id, backup.generation), part)
                copies.clean(engine, part)
                copies.check(engine, part)
                generation.finish(staged)
            whole = replace(backup, size_bytes=staged.stat().st_size, sha256=copies.sha256(staged))
            self._archive.put_file(object_of(whole), staged)
            return whole.size_bytes, whole.sha256

    def _prepare(self, restore: Restore) -> int:
        """Make the new generation's file, and bring it into the archive as that one's base; its bytes.

        Raises BackupDamaged, HistoryDamaged, MomentUnavailable, StoreUnavailable, StorageFull.
        """
        file = generation.numbered(self._data_dir, restore.database_id, restore.generation)
        with copies.faults():
            part = generation.part(file)
            if restore.backup_id:
                self._fetch(restore.backup_id, part)
            else:
                self._rebuild(restore, part)
            copies.check(self._files.engine, part)
            size = part.stat().st_size
            generation.finish(file)
        self._history.prepare(restore.database_id, restore.generation, file)
        return size

    def _undo(self, restore: Restore) -> None:
        """Remove what a restore has made that failed."""
        generation.remove_file(generation.numbered(self._data_dir, restore.database_id, restore.generation))
        with suppress(TovukError):
            self._history.unprepare(restore.database_id, restore.generation)

    def _fetch(self, backup_id: str, part: Path) -> None:
        backup = self._rows.backup(backup_id)
        if backup is None:
            raise BackupNotFound
        fetch(self._archive, backup, part)

    def _rebuild(self, restore: Restore, part: Path) -> None:
        database = self._catalog.get(restore.database_id)
        if database is None:
            raise DatabaseNotFound
        try:
            number = self._generation_at(database, restore.at_ms)
            self._history.rebuild(database.id, number, restore.at_ms, part)
        except NoHistory as error:
            raise MomentUnavailable from error
        except Damaged as error:
            raise HistoryDamaged from error
        copies.clean(self._files.engine, part)

    def _sweep(self, backups: Sequence[Backup], restores: Sequence[Restore]) -> None:
        kept = self._rows.kept_generations()
        staged = {backup.id for backup in backups}
        for restore in restores:
            kept.setdefault(restore.database_id, set()).add(restore.generation)
        for database in self._catalog.all():
            generations = {database.generation, *kept.get(database.id, ())}
            generation.sweep(self._data_dir, database.id, generations, staged)
