"""Which backups and restores there are, in the catalog's file, where a restore's flip is one transaction with them.

A backup's object in the archive says in its name what the row says, for a folder that takes the place of a lost one.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

from tovuk_kit.sqlite import SqliteFile
from tovuk_kit.sqlite_library import Connection
from tovuk_sqlite.errors import BackupDamaged
from tovuk_sqlite.store import copies
from tovuk_sqlite.store.archive import Archive, ObjectMissing
from tovuk_sqlite.store.base import Database
from tovuk_sqlite.store.catalog import take_over

_BACKUP: Final = "id, database_id, kind, status, reason, created_at_ms, expires_at_ms, generation, size_bytes, sha256"
_RESTORE: Final = (
    "id, database_id, plan, backup_id, at_ms, safety_id, status, reason, created_at_ms, ended_at_ms, expires_at_ms,"
    " generation"
)
_END: Final = "database_id, number, ended_at_ms"
_OBJECT_NAME: Final = re.compile(
    r"(?P<id>\w+)-(?P<kind>manual|safety)-(?P<created>\d+)-(?P<expires>\d+)-(?P<generation>\d+)-(?P<size>\d+)"
    r"-(?P<sha256>[0-9a-f]{64})"
)


class Kind(StrEnum):
    """Who asked for a backup."""

    MANUAL = "manual"
    #: A restore, which keeps what it replaces.
    SAFETY = "safety"


class Status(StrEnum):
    """How far a backup or a restore is."""

    CREATING = "creating"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Backup:
    """A copy of a database. Size and SHA-256 are known, and nothing else can be restored, once it is ready."""

    id: str
    database_id: str
    kind: Kind
    status: Status
    #: The code of what made it fail.
    reason: str
    created_at_ms: int
    expires_at_ms: int
    #: The generation it is taken from.
    generation: int
    size_bytes: int = 0
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Restore:
    """A restore of the backup `backup_id`, or of the moment `at_ms` where that is empty."""

    id: str
    database_id: str
    plan: str
    backup_id: str
    at_ms: int
    #: The backup of what it replaces.
    safety_id: str
    status: Status
    #: The code of what made it fail.
    reason: str
    created_at_ms: int
    #: When it became ready, which is when the database changed, or failed; 0 before.
    ended_at_ms: int
    expires_at_ms: int
    #: The generation it makes.
    generation: int


class Kept(NamedTuple):
    """What a database can be put back to, as it moves with it."""

    backups: Sequence[Backup]
    restores: Sequence[Restore]
    #: When its generations were replaced.
    ends: Mapping[int, int]


def objects(database_id: str) -> str:
    """The archive's folder of the database's backups."""
    return f"{database_id}/backups"


def object_of(backup: Backup) -> str:
    """The name of a ready backup's object."""
    told = (backup.created_at_ms, backup.expires_at_ms, backup.generation, backup.size_bytes, backup.sha256)
    return f"{objects(backup.database_id)}/{'-'.join((backup.id, backup.kind, *map(str, told)))}"


def described(database_id: str, name: str) -> Backup | None:
    """The backup whose object's name ends so; None where it is no backup's."""
    found = _OBJECT_NAME.fullmatch(name)
    if found is None:
        return None
    return Backup(
        id=found["id"],
        database_id=database_id,
        kind=Kind(found["kind"]),
        status=Status.READY,
        reason="",
        created_at_ms=int(found["created"]),
        expires_at_ms=int(found["expires"]),
        generation=int(found["generation"]),
        size_bytes=int(found["size"]),
        sha256=found["sha256"],
    )


def fetch(archive: Archive, backup: Backup, path: Path) -> None:
    """Write a ready backup's object into a new file. Raises BackupDamaged, StoreUnavailable, StorageFull."""
    try:
        archive.get_file(object_of(backup), path)
    except ObjectMissing as error:
        raise BackupDamaged from error
    if path.stat().st_size != backup.size_bytes or copies.sha256(path) != backup.sha256:
        raise BackupDamaged


class UnderWay(Exception):
    """The database has a manual backup, or a restore, under way."""


class Moved(Exception):
    """The database is dropped, or no longer at the generation that was to be replaced."""


class BackupRows:
    """Backups and restores of one data folder. Durable on return."""

    def __init__(self, file: SqliteFile[Connection]) -> None:
        self._file = file

    async def add_backup(self, backup: Backup) -> None:
        """Note it as creating. Raises UnderWay."""

        def work(connection: Connection) -> None:
            sql = "SELECT 1 FROM backup WHERE database_id = ? AND kind = 'manual' AND status = 'creating'"
            if connection.execute(sql, (backup.database_id,)).get is not None:
                raise UnderWay
            _insert(connection, "backup", _BACKUP, _backup_row(backup))

        await self._file.write(work)

    async def add_restore(self, restore: Restore, safety: Backup) -> None:
        """Note it and the backup of what it replaces as creating. Raises UnderWay."""

        def work(connection: Connection) -> None:
            sql = "SELECT 1 FROM restore WHERE database_id = ? AND status = 'creating'"
            if connection.execute(sql, (restore.database_id,)).get is not None:
                raise UnderWay
            _insert(connection, "restore", _RESTORE, _restore_row(restore))
            _insert(connection, "backup", _BACKUP, _backup_row(safety))

        await self._file.write(work)

    async def set_ready(self, backup_id: str, size_bytes: int, sha256: str) -> None:
        """The backup is whole and in the archive."""

        def work(connection: Connection) -> None:
            sql = "UPDATE backup SET status = 'ready', size_bytes = ?, sha256 = ? WHERE id = ?"
            connection.execute(sql, (size_bytes, sha256, backup_id))

        await self._file.write(work, essential=True)

    async def set_failed(self, backup_id: str, reason: str) -> None:
        """The backup will not be made."""

        def work(connection: Connection) -> None:
            connection.execute("UPDATE backup SET status = 'failed', reason = ? WHERE id = ?", (reason, backup_id))

        await self._file.write(work, essential=True)

    async def set_restore_failed(self, restore: Restore, reason: str, now_ms: int) -> None:
        """The restore has changed nothing, so there is nothing to keep safe either."""

        def work(connection: Connection) -> None:
            sql = "UPDATE restore SET status = 'failed', reason = ?, ended_at_ms = ? WHERE id = ?"
            connection.execute(sql, (reason, now_ms, restore.id))
            sql = "UPDATE backup SET status = 'failed', reason = ? WHERE id = ?"
            connection.execute(sql, (reason, restore.safety_id))

        await self._file.write(work, essential=True)

    async def flip(
        self,
        database: Database,
        restore: Restore,
        storage_bytes: int,
        units: Sequence[tuple[int, int, int]],
        now_ms: int,
    ) -> None:
        """The restore's generation is the database's; (epoch, lease, units) that its file held are the catalog's.

        Raises Moved.
        """

        def work(connection: Connection) -> None:
            sql = (
                "UPDATE database SET generation = ?, storage_bytes = ? WHERE id = ? AND generation = ? AND dropped = 0"
            )
            connection.execute(sql, (restore.generation, storage_bytes, database.id, database.generation))
            if not connection.changes():
                raise Moved
            take_over(connection, database, units)
            sql = "UPDATE restore SET status = 'ready', ended_at_ms = ? WHERE id = ?"
            connection.execute(sql, (now_ms, restore.id))
            connection.execute("UPDATE backup SET created_at_ms = ? WHERE id = ?", (now_ms, restore.safety_id))
            _insert(connection, "generation_end", _END, (database.id, database.generation, now_ms))

        await self._file.write(work, essential=True)

    def backup(self, backup_id: str) -> Backup | None:
        """The backup with this id."""
        found = self._backups("id = ?", (backup_id,))
        return found[0] if found else None

    def backups(self, database_id: str) -> list[Backup]:
        """The database's backups, the newest first."""
        return self._backups("database_id = ? ORDER BY created_at_ms DESC, id", (database_id,))

    def restores(self, database_id: str) -> list[Restore]:
        """The database's restores, the newest first."""
        return self._restores("database_id = ? ORDER BY created_at_ms DESC, id", (database_id,))

    def ends(self, database_id: str) -> dict[int, int]:
        """When the database's generations were replaced."""
        sql = "SELECT number, ended_at_ms FROM generation_end WHERE database_id = ?"
        rows: list[Any] = self._file.read(lambda connection: connection.execute(sql, (database_id,)).fetchall())
        return dict(rows)

    def kept(self, database_id: str) -> Kept:
        """All that is known of a database."""
        return Kept(self.backups(database_id), self.restores(database_id), self.ends(database_id))

    async def put(self, database_id: str, kept: Kept) -> None:
        """This is all that is known of a database."""

        def work(connection: Connection) -> None:
            _forget(connection, database_id)
            for backup in kept.backups:
                _insert(connection, "backup", _BACKUP, _backup_row(backup))
            for restore in kept.restores:
                _insert(connection, "restore", _RESTORE, _restore_row(restore))
            for number, ended_at_ms in kept.ends.items():
                _insert(connection, "generation_end", _END, (database_id, number, ended_at_ms))

        await self._file.write(work, essential=True)

    def unfinished(self) -> tuple[list[Backup], list[Restore]]:
        """Those that are creating."""
        return self._backups("status = 'creating'", ()), self._restores("status = 'creating'", ())

    def kept_generations(self) -> dict[str, set[int]]:
        """By database: generations that a restore has replaced, and whose safety backup is not in the archive."""
        sql = "SELECT database_id, generation FROM backup WHERE kind = 'safety' AND status <> 'ready'"
        kept: dict[str, set[int]] = {}
        rows: list[Any] = self._file.read(lambda connection: connection.execute(sql).fetchall())
        for database_id, generation in rows:
            kept.setdefault(database_id, set()).add(generation)
        return kept

    def expired(self, now_ms: int) -> list[Backup]:
        """Backups of the folder's own databases that need not be kept any longer."""
        own = "database_id IN (SELECT id FROM database WHERE dropped = 0)"
        return self._backups(f"expires_at_ms <= ? AND status <> 'creating' AND {own} LIMIT 1000", (now_ms,))

    async def forget(self, backups: Sequence[Backup], now_ms: int) -> None:
        """Remove the rows of these backups, and of expired restores."""

        def work(connection: Connection) -> None:
            connection.executemany("DELETE FROM backup WHERE id = ?", [(backup.id,) for backup in backups])
            connection.execute("DELETE FROM restore WHERE expires_at_ms <= ? AND status <> 'creating'", (now_ms,))

        await self._file.write(work, essential=True)

    async def forget_ends(self, database_id: str, until_ms: int) -> None:
        """Remove what is known of generations that were replaced until then."""
        sql = "DELETE FROM generation_end WHERE database_id = ? AND ended_at_ms <= ?"

        def work(connection: Connection) -> None:
            connection.execute(sql, (database_id, until_ms))

        await self._file.write(work, essential=True)

    async def forget_database(self, database_id: str) -> None:
        """Remove every row of a database."""

        def work(connection: Connection) -> None:
            _forget(connection, database_id)

        await self._file.write(work, essential=True)

    def _backups(self, condition: str, params: tuple[Any, ...]) -> list[Backup]:
        sql = f"SELECT {_BACKUP} FROM backup WHERE {condition}"
        rows: list[Any] = self._file.read(lambda connection: connection.execute(sql, params).fetchall())
        return [replace(Backup(*row), kind=Kind(row[2]), status=Status(row[3])) for row in rows]

    def _restores(self, condition: str, params: tuple[Any, ...]) -> list[Restore]:
        sql = f"SELECT {_RESTORE} FROM restore WHERE {condition}"
        rows: list[Any] = self._file.read(lambda connection: connection.execute(sql, params).fetchall())
        return [replace(Restore(*row), status=Status(row[6])) for row in rows]


def _forget(connection: Connection, database_id: str) -> None:
    for table in ("backup", "restore", "generation_end"):
        connection.execute(f"DELETE FROM {table} WHERE database_id = ?", (database_id,))


def _backup_row(backup: Backup) -> tuple[Any, ...]:
    return (
        backup.id,
        backup.database_id,
        str(backup.kind),
        str(backup.status),
        backup.reason,
        backup.created_at_ms,
        backup.expires_at_ms,
        backup.generation,
        backup.size_bytes,
        backup.sha256,
    )


def _restore_row(restore: Restore) -> tuple[Any, ...]:
    return (
        restore.id,
        restore.database_id,
        restore.plan,
        restore.backup_id,
        restore.at_ms,
        restore.safety_id,
        str(restore.status),
        restore.reason,
        restore.created_at_ms,
        restore.ended_at_ms,
        restore.expires_at_ms,
        restore.generation,
    )


def _insert(connection: Connection, table: str, columns: str, row: tuple[Any, ...]) -> None:
    connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' * len(row))})", row)
