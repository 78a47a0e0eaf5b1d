"""The sqlite service as the gateway sees it: each database at its shard."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Final, TypeVar

from tovuk.sqlite.v1 import frames
from tovuk.sqlite.v1 import sqlite_pb2 as pb
from tovuk_gateway.clients.shards import QUERY_TIMEOUT_SECONDS, Shard, Shards
from tovuk_kit.errors import Outcome, ServiceUnavailable, TovukError

_READ_TIMEOUT_SECONDS: Final = 3.0
#: How often a list is asked for again while databases move between the shards that are asked.
_LIST_ATTEMPTS_MAX: Final = 3
#: Why a shard that was asked for a new database may not be the one to ask.
_ANOTHER_SHARD: Final = frozenset({"sqlite_shard_not_owned", ServiceUnavailable.code})

T = TypeVar("T")


class SqliteClient:
    """Calls to the sqlite service; they raise what `Channel.unary` raises. Must be made within a running event loop."""

    def __init__(self, shards: Shards) -> None:
        self.shards = shards

    def submit(self, op: frames.Operation, callback: Callable[[frames.Answer | TovukError], None]) -> None:
        """Send a short statement; the callback gets its answer or an error later, never from within this call.

        Where the database lies must be remembered: what is not goes by `run`, as what is not short does.
        """
        shard = self.shards.known(op.service, op.database)
        if shard is None:
            asyncio.get_running_loop().call_soon(callback, frames.NotShort(op.id))
        else:
            shard.coalescer.submit(op, callback)

    async def run(self, request: pb.RunRequest, *, is_read: bool) -> bytes:
        """The answer's JSON. Cancelled, the query is interrupted."""

        async def at(shard: Shard) -> bytes:
            stream = shard.channel.receive_stream(
                shard.data.Run, request, timeout_s=QUERY_TIMEOUT_SECONDS, is_read=is_read
            )
            async with aclosing(stream):
                return b"".join([reply.chunk async for reply in stream])

        return await self._at(request.target, at)

    async def create_database(self, account_id: str, service_id: str, name: str) -> pb.Database:
        """A new database, at the shard with the fewest that can be reached."""
        request = pb.CreateDatabaseRequest(account_id=account_id, service_id=service_id, name=name)
        refused: TovukError = ServiceUnavailable(service="sqlite", retry_after_ms=1_000)
        for shard in await self.shards.every():
            try:
                reply: pb.Database = await shard.channel.unary(shard.admin.CreateDatabase, request, retry=False)
            except TovukError as error:
                if error.code not in _ANOTHER_SHARD or error.outcome is not Outcome.NOT_DONE:
                    raise
                refused = error
            else:
                return reply
        raise refused

    async def delete_database(self, account_id: str, service_id: str, database: str) -> str:
        """The id of the database that is gone."""
        target = pb.Target(account_id=account_id, service_id=service_id, database=database)
        request = pb.DeleteDatabaseRequest(target=target)

        async def at(shard: Shard) -> str:
            reply: pb.DeleteDatabaseReply = await shard.channel.unary(shard.admin.DeleteDatabase, request, retry=False)
            return reply.id

        return await self._at(target, at)

    async def list_databases(self, service_id: str) -> list[pb.Database]:
        """Every database of the service, by name; from every shard that has one, or none."""
        found: dict[str, pb.Database] = {}
        for _ in range(_LIST_ATTEMPTS_MAX):
            concerned = await self.shards.of_service(service_id)
            lists = await asyncio.gather(*(_list_databases(shard, service_id) for shard in concerned))
            found = {database.id: database for listed in lists for database in listed}
            # One that left a shard before the shard was asked, for another that had been asked: asked again.
            if all(found.keys() >= ids for ids in concerned.values()):
                break
        return sorted(found.values(), key=lambda database: database.name.encode())

    async def create_backup(self, target: pb.Target, plan: str) -> pb.Backup:
        """A backup on its way."""
        request = pb.CreateBackupRequest(target=target, plan=plan)

        async def at(shard: Shard) -> pb.Backup:
            reply: pb.Backup = await shard.channel.unary(shard.admin.CreateBackup, request, retry=False)
            return reply

        return await self._at(target, at)

    async def backups(self, target: pb.Target) -> pb.ListBackupsReply:
        """The database's backups and restores."""
        request = pb.ListBackupsRequest(target=target)

        async def at(shard: Shard) -> pb.ListBackupsReply:
            reply: pb.ListBackupsReply = await shard.channel.unary(
                shard.admin.ListBackups, request, timeout_s=_READ_TIMEOUT_SECONDS, retry=True
            )
            return reply

        return await self._at(target, at)

    async def restore(self, request: pb.RestoreRequest) -> pb.RestoreState:
        """A restore on its way."""

        async def at(shard: Shard) -> pb.RestoreState:
            reply: pb.RestoreState = await shard.channel.unary(shard.admin.Restore, request, retry=False)
            return reply

        return await self._at(request.target, at)

    async def counts_rows_read(self) -> bool:
        """Whether every shard's engine counts rows read exactly."""
        return all(await asyncio.gather(*(_counts_rows_read(shard) for shard in await self.shards.every())))

    async def _at(self, target: pb.Target, call: Callable[[Shard], Awaitable[T]]) -> T:
        return await self.shards.at(target.service_id, target.database, call)


async def _list_databases(shard: Shard, service_id: str) -> list[pb.Database]:
    request = pb.ListDatabasesRequest(service_id=service_id)
    reply: pb.ListDatabasesReply = await shard.channel.unary(
        shard.admin.ListDatabases, request, timeout_s=_READ_TIMEOUT_SECONDS, retry=True
    )
    return list(reply.databases)


async def _counts_rows_read(shard: Shard) -> bool:
    reply: pb.DescribeReply = await shard.channel.unary(
        shard.admin.Describe, pb.DescribeRequest(), timeout_s=_READ_TIMEOUT_SECONDS, retry=True
    )
    return reply.rows_read_exact
