"""Backups and restores on the wire: to callers, and between shards with a database that moves."""

from tovuk.sqlite.v1 import sqlite_pb2 as wire
from tovuk_sqlite.store.backups import Backup, Kept, Kind, Restore, Status


def backup_told(backup: Backup) -> wire.Backup:
    """A backup as callers see it."""
    return wire.Backup(
        id=backup.id,
        database_id=backup.database_id,
        kind=backup.kind,
        status=backup.status,
        reason=backup.reason,
        created_at_ms=backup.created_at_ms,
        expires_at_ms=backup.expires_at_ms,
        size_bytes=backup.size_bytes,
        sha256=backup.sha256,
    )


def restore_told(restore: Restore) -> wire.RestoreState:
    """A restore as callers see it."""
    return wire.RestoreState(
        id=restore.id,
        database_id=restore.database_id,
        backup_id=restore.backup_id,
        safety_backup_id=restore.safety_id,
        status=restore.status,
        reason=restore.reason,
        created_at_ms=restore.created_at_ms,
        ended_at_ms=restore.ended_at_ms,
        at_ms=restore.at_ms,
    )


def kept_told(kept: Kept, size_bytes: int) -> wire.ReceiveDatabaseRequest:
    """The last message of a database that moves: the bytes of its file, and what it can be put back to."""
    backups = [wire.ArrivingBackup(backup=backup_told(row), generation=row.generation) for row in kept.backups]
    restores = [
        wire.ArrivingRestore(
            restore=restore_told(row), plan=row.plan, expires_at_ms=row.expires_at_ms, generation=row.generation
        )
        for row in kept.restores
    ]
    ends = [wire.GenerationEnd(number=number, ended_at_ms=at_ms) for number, at_ms in kept.ends.items()]
    return wire.ReceiveDatabaseRequest(size_bytes=size_bytes, backups=backups, restores=restores, ends=ends)


def kept_heard(said: wire.ReceiveDatabaseRequest) -> Kept:
    """What comes with a database, as `kept_told` told it."""
    backups = [
        Backup(
            id=row.backup.id,
            database_id=row.backup.database_id,
            kind=Kind(row.backup.kind),
            status=Status(row.backup.status),
            reason=row.backup.reason,
            created_at_ms=row.backup.created_at_ms,
            expires_at_ms=row.backup.expires_at_ms,
            generation=row.generation,
            size_bytes=row.backup.size_bytes,
            sha256=row.backup.sha256,
        )
        for row in said.backups
    ]
    restores = [
        Restore(
            id=row.restore.id,
            database_id=row.restore.database_id,
            plan=row.plan,
            backup_id=row.restore.backup_id,
            at_ms=row.restore.at_ms,
            safety_id=row.restore.safety_backup_id,
            status=Status(row.restore.status),
            reason=row.restore.reason,
            created_at_ms=row.restore.created_at_ms,
            ended_at_ms=row.restore.ended_at_ms,
            expires_at_ms=row.expires_at_ms,
            generation=row.generation,
        )
        for row in said.restores
    ]
    return Kept(backups, restores, {end.number: end.ended_at_ms for end in said.ends})
