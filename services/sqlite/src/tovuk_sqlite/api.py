"""gRPC: wire to domain and back, and nothing else."""

# The wire names its methods.
# ruff: noqa: N802

from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

import msgspec

from tovuk.common.v1.frames import Failed
from tovuk.sqlite.v1 import frames
from tovuk.sqlite.v1 import sqlite_pb2 as wire
from tovuk.sqlite.v1 import statements as payload
from tovuk.sqlite.v1.sqlite_pb2_grpc import (
    SqliteAdminServicer,
    SqliteDataServicer,
    add_SqliteAdminServicer_to_server,
    add_SqliteDataServicer_to_server,
)
from tovuk_kit.errors import TovukError
from tovuk_kit.exchange import Exchange, failed
from tovuk_kit.server import Registration
from tovuk_sqlite.backups import Backups
from tovuk_sqlite.clients.backups import backup_told, kept_heard, restore_told
from tovuk_sqlite.database import Databases
from tovuk_sqlite.directory import Target
from tovuk_sqlite.errors import ParametersInvalid
from tovuk_sqlite.lifecycle import Lifecycle
from tovuk_sqlite.limits import CHUNK_BYTES
from tovuk_sqlite.moves import Moves
from tovuk_sqlite.ownership import Ownership
from tovuk_sqlite.short import Shorts
from tovuk_sqlite.store.base import Database, NotShort, Statement


def registrations(
    databases: Databases,
    lifecycle: Lifecycle,
    backups: Backups,
    moves: Moves,
    ownership: Ownership,
    *,
    rows_read_exact: bool,
) -> Sequence[Registration]:
    """Both planes, to be added to a server."""
    return (
        partial(add_SqliteDataServicer_to_server, SqliteData(databases, ownership)),
        partial(
            add_SqliteAdminServicer_to_server,
            SqliteAdmin(lifecycle, backups, moves, ownership, rows_read_exact=rows_read_exact),
        ),
    )


def exchange(shorts: Shorts, ownership: Ownership) -> Exchange[frames.Operation, frames.Answer]:
    """The data plane's short requests, to be served beside it."""
    return Exchange(
        method="/tovuk.sqlite.v1.SqliteData/Exchange",
        decode=frames.decode_operations,
        encode=frames.encode,
        handle=partial(_handle, shorts, ownership),
    )


class SqliteData(SqliteDataServicer):
    """The data plane but for `Exchange`, which is not served by grpc.aio."""

    def __init__(self, databases: Databases, ownership: Ownership) -> None:
        self._databases = databases
        self._ownership = ownership

    async def Run(self, request: wire.RunRequest, context: object) -> AsyncIterator[wire.RunReply]:
        try:
            statements = [Statement(*sent) for sent in payload.decode(request.statements)]
        except msgspec.MsgspecError as error:
            raise ParametersInvalid(statement=0, reason="a value is no value of SQL") from error
        target = _target(request.target)
        with self._ownership.throughout():
            if request.estimate:
                body = await self._databases.estimate(target, statements[0])
            else:
                body = await self._databases.run(
                    target, request.plan, statements, batch=request.batch, cursor=request.cursor
                )
        for start in range(0, len(body), CHUNK_BYTES):
            yield wire.RunReply(chunk=body[start : start + CHUNK_BYTES])


class SqliteAdmin(SqliteAdminServicer):
    """The admin plane."""

    def __init__(
        self, lifecycle: Lifecycle, backups: Backups, moves: Moves, ownership: Ownership, *, rows_read_exact: bool
    ) -> None:
        self._lifecycle = lifecycle
        self._backups = backups
        self._moves = moves
        self._ownership = ownership
        self._rows_read_exact = rows_read_exact

    async def CreateDatabase(self, request: wire.CreateDatabaseRequest, context: object) -> wire.Database:
        with self._ownership.throughout():
            return _database(await self._lifecycle.create(request.account_id, request.service_id, request.name))

    async def DeleteDatabase(self, request: wire.DeleteDatabaseRequest, context: object) -> wire.DeleteDatabaseReply:
        with self._ownership.throughout():
            return wire.DeleteDatabaseReply(id=(await self._lifecycle.delete(_target(request.target))).id)

    async def ListDatabases(self, request: wire.ListDatabasesRequest, context: object) -> wire.ListDatabasesReply:
        with self._ownership.throughout():
            found = await self._lifecycle.list(request.service_id)
            return wire.ListDatabasesReply(databases=[_database(database) for database in found])

    async def CreateBackup(self, request: wire.CreateBackupRequest, context: object) -> wire.Backup:
        with self._ownership.throughout():
            return backup_told(await self._backups.create(_target(request.target), request.plan))

    async def ListBackups(self, request: wire.ListBackupsRequest, context: object) -> wire.ListBackupsReply:
        with self._ownership.throughout():
            listed = await self._backups.list(_target(request.target))
            return wire.ListBackupsReply(
                backups=map(backup_told, listed.backups),
                restores=map(restore_told, listed.restores),
                earliest_ms=listed.earliest_ms or 0,
            )

    async def Restore(self, request: wire.RestoreRequest, context: object) -> wire.RestoreState:
        target = _target(request.target)
        with self._ownership.throughout():
            if request.at_ms:
                return restore_told(await self._backups.restore_moment(target, request.plan, request.at_ms))
            return restore_told(await self._backups.restore(target, request.plan, request.backup_id))

    async def BeginArrival(self, request: wire.BeginArrivalRequest, context: object) -> wire.BeginArrivalReply:
        with self._ownership.throughout():
            shared = await self._moves.begin(*_arriving(request.database), request.probe)
            return wire.BeginArrivalReply(shares_archive=shared)

    async def OfferObjects(self, request: wire.OfferObjectsRequest, context: object) -> wire.OfferObjectsReply:
        with self._ownership.throughout():
            missing = await self._moves.missing(*_arriving(request.database), request.folder, request.names)
            return wire.OfferObjectsReply(missing=missing)

    async def ReceiveObject(
        self, request_iterator: AsyncIterator[wire.ReceiveObjectRequest], context: object
    ) -> wire.ReceiveObjectReply:
        first = await anext(aiter(request_iterator))
        chunks = (request.data async for request in request_iterator)
        with self._ownership.throughout():
            await self._moves.put(*_arriving(first.database), first.name, first.size_bytes, first.sha256, chunks)
            return wire.ReceiveObjectReply()

    async def ReceiveDatabase(
        self, request_iterator: AsyncIterator[wire.ReceiveDatabaseRequest], context: object
    ) -> wire.ReceiveDatabaseReply:
        first = await anext(aiter(request_iterator))
        database, attempt = _arriving(first.database)
        last = first

        async def pieces() -> AsyncIterator[tuple[int, bytes]]:
            nonlocal last
            async for last in request_iterator:
                if last.data:
                    yield last.offset, last.data

        with self._ownership.throughout():
            await self._moves.receive(database, attempt, pieces(), anew=first.anew)
            if last.size_bytes:
                await self._moves.complete(database, attempt, last.size_bytes, kept_heard(last))
            return wire.ReceiveDatabaseReply()

    async def Describe(self, request: wire.DescribeRequest, context: object) -> wire.DescribeReply:
        return wire.DescribeReply(rows_read_exact=self._rows_read_exact)


def _handle(
    shorts: Shorts, ownership: Ownership, op: frames.Operation, reply: Callable[[frames.Answer | Failed], None]
) -> None:
    ownership.check()
    target = Target(op.account, op.service, op.database)
    run = shorts.read if isinstance(op, frames.Read) else shorts.write
    run(target, op.plan, op.statements, partial(_answered, ownership, op.id, reply), batch=op.batch)


def _answered(
    ownership: Ownership,
    operation: int,
    reply: Callable[[frames.Answer | Failed], None],
    answer: bytes | NotShort | TovukError,
) -> None:
    if isinstance(answer, bytes):
        reply(frames.Done(operation, answer) if ownership.holds else failed(operation, ownership.too_late()))
    elif isinstance(answer, NotShort):
        reply(frames.NotShort(operation))
    else:
        reply(failed(operation, answer))


def _target(target: wire.Target) -> Target:
    return Target(target.account_id, target.service_id, target.database)


def _arriving(said: wire.ArrivingDatabase) -> tuple[Database, str]:
    database = Database(said.id, said.name, said.service_id, said.account_id, said.created_at_ms, said.generation)
    return database, said.attempt


def _database(database: Database) -> wire.Database:
    return wire.Database(
        id=database.id,
        name=database.name,
        service_id=database.service_id,
        created_at_ms=database.created_at_ms,
    )
