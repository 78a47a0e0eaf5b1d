"""The SQLite routes of backups and restores. Both are answered at once, and made beside the requests."""

from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request, Security

from tovuk.sqlite.v1 import sqlite_pb2 as pb
from tovuk_gateway.chain import Need, need_capability
from tovuk_gateway.errors import InvalidRequest
from tovuk_gateway.routes import contract, models
from tovuk_gateway.routes.context import (
    Context,
    ServiceRef,
    body_object,
    moment,
    success,
    text_field,
)
from tovuk_gateway.routes.sqlite import DatabaseRef

_DATABASE = "/v1/services/{service:segment}/sqlite/{database:segment}"
_BACKUPS = _DATABASE + "/backups"
_FOUND = ("service_not_found", "sqlite_database_not_found", "sqlite_database_busy", "rate_limited")
_RESTORE = (
    *_FOUND,
    "capability_disabled",
    "sqlite_backup_not_found",
    "sqlite_backup_not_ready",
    "sqlite_restore_under_way",
    "sqlite_moment_unavailable",
    "store_unavailable",
    "outcome_unknown",
    "storage_full",
)
_BODY = ("invalid_request", "invalid_json", "body_too_large", "unsupported_media_type")
#: The last moment of the year 9999.
_UNIX_MS_MAX: Final = 253_402_300_800_000
_FOLLOW = "List the backups with GET /v1/services/{service}/sqlite/{database}/backups until its status is ready."

BackupRef = Annotated[str, Path(description="A backup's id.", examples=["sqlite_backup_0a5b9c1d7e3f2a4b6c8d"])]


def router(context: Context) -> APIRouter:
    """Every route of SQLite backups."""
    routes = APIRouter(tags=["sqlite"], dependencies=[Security(contract.bearer)])

    async def restored(request: Request, service: str, database: str, content: dict[str, Any]) -> Any:
        caller, found = await context.admit_to_service(request, Need.WRITE, service)
        need_capability(found, "sqlite")
        asked = pb.RestoreRequest(
            target=pb.Target(account_id=caller.account_id, service_id=found.id, database=database), plan=caller.plan
        )
        if "timestamp" in content and "backupId" not in content:
            asked.at_ms = unix_ms(content["timestamp"])
        elif "timestamp" not in content and text_field(content, "backupId", ""):
            asked.backup_id = content["backupId"]
        else:
            raise InvalidRequest(reason="name either a backup as backupId, or a moment as timestamp")
        state = await context.sqlite.restore(asked)
        return context.hinted({"restore": restore_item(state)}, _FOLLOW, "/openapi.json")

    @routes.get(
        _BACKUPS,
        operation_id="listSqliteBackups",
        summary="List a database's backups and restores",
        responses=contract.answers(models.BackupList, *_FOUND),
    )
    async def list_backups(request: Request, service: ServiceRef, database: DatabaseRef) -> Any:
        """The newest first. A safety backup is what a restore replaced."""
        caller, found = await context.admit_to_service(request, Need.READ, service)
        target = pb.Target(account_id=caller.account_id, service_id=found.id, database=database)
        listed = await context.sqlite.backups(target)
        return success(
            {
                "backups": [backup_item(backup) for backup in listed.backups],
                "restores": [restore_item(restore) for restore in listed.restores],
                "restorableFrom": moment(listed.earliest_ms),
            }
        )

    @routes.post(
        _BACKUPS,
        operation_id="createSqliteBackup",
        summary="Back a database up as it is now",
        responses=contract.answers(
            models.BackupCreated,
            *_FOUND,
            "capability_disabled",
            "sqlite_backup_under_way",
            "outcome_unknown",
            "storage_full",
        ),
    )
    async def create_backup(request: Request, service: ServiceRef, database: DatabaseRef) -> Any:
        """Answered when it is noted. It holds at least what was answered before, once it is ready."""
        caller, found = await context.admit_to_service(request, Need.WRITE, service)
        need_capability(found, "sqlite")
        target = pb.Target(account_id=caller.account_id, service_id=found.id, database=database)
        backup = await context.sqlite.create_backup(target, caller.plan)
        return context.hinted({"backup": backup_item(backup)}, _FOLLOW, "/openapi.json")

    @routes.post(
        _BACKUPS + "/{backup:segment}/restore",
        operation_id="restoreSqliteBackup",
        summary="Put a backup in its database's place",
        responses=contract.answers(models.RestoreBegun, *_RESTORE),
    )
    async def restore_backup(request: Request, service: ServiceRef, database: DatabaseRef, backup: BackupRef) -> Any:
        """Answered when it is noted. What it replaces becomes a safety backup."""
        return await restored(request, service, database, {"backupId": backup})

    @routes.post(
        _DATABASE + "/restore",
        operation_id="restoreSqliteDatabase",
        summary="Put a database back to a backup, or to what it was at a moment",
        responses=contract.answers(models.RestoreBegun, *_RESTORE, *_BODY),
        openapi_extra=contract.body(models.Restore),
    )
    async def restore_database(request: Request, service: ServiceRef, database: DatabaseRef) -> Any:
        """Answered when it is noted. What it replaces becomes a safety backup."""
        return await restored(request, service, database, await body_object(request))

    return routes


def unix_ms(content: object) -> int:
    """A moment: RFC 3339 with its offset, or Unix milliseconds. Raises InvalidRequest."""
    if isinstance(content, int) and not isinstance(content, bool) and 0 < content < _UNIX_MS_MAX:
        return content
    if isinstance(content, str):
        with suppress(ValueError):
            when = datetime.fromisoformat(content)
            if when.tzinfo is not None and when.timestamp() > 0:
                return round(when.timestamp() * 1000)
    raise InvalidRequest(reason="timestamp must be RFC 3339 with an offset, or Unix milliseconds")


def backup_item(backup: pb.Backup) -> dict[str, Any]:
    """A backup in a list."""
    ready = backup.status == "ready"
    return {
        "id": backup.id,
        "databaseId": backup.database_id,
        "kind": backup.kind,
        "status": backup.status,
        "reason": backup.reason or None,
        "createdAt": moment(backup.created_at_ms),
        "expiresAt": moment(backup.expires_at_ms),
        "sizeBytes": backup.size_bytes if ready else None,
        "sha256": backup.sha256 if ready else None,
    }


def restore_item(restore: pb.RestoreState) -> dict[str, Any]:
    """A restore in a list."""
    return {
        "id": restore.id,
        "databaseId": restore.database_id,
        "backupId": restore.backup_id or None,
        "timestamp": moment(restore.at_ms),
        "safetyBackupId": restore.safety_backup_id,
        "status": restore.status,
        "reason": restore.reason or None,
        "createdAt": moment(restore.created_at_ms),
        "endedAt": moment(restore.ended_at_ms),
    }
