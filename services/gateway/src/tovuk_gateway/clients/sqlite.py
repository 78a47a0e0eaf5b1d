"""The sqlite service as the gateway sees it: a service's databases are all at one shard."""

from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Final

from tovuk.sqlite.v1 import frames
from tovuk.sqlite.v1 import sqlite_pb2 as pb
from tovuk.sqlite.v1 import sqlite_pb2_grpc as stubs
from tovuk_kit.channel import Coalescer
from tovuk_kit.client import Channel
from tovuk_kit.errors import TovukError

#: A query may take 25 s, and wait for others before.
_QUERY_TIMEOUT_SECONDS: Final = 29.0


#: The data channel's method.
_EXCHANGE: Final = "/tovuk.sqlite.v1.SqliteData/Exchange"


def _is_read(op: frames.Operation) -> bool:
    return isinstance(op, frames.Select)


class SqliteClient:
    """Calls to the sqlite service; they raise what `Channel.unary` raises. Must be made within a running event loop."""

    def __init__(self, channels: Sequence[Channel]) -> None:
        self.channels = tuple(channels)
        self._channel = self.channels[0]
        self._data = stubs.SqliteDataStub(self._channel.grpc)
        self._admin = stubs.SqliteAdminStub(self._channel.grpc)
        self._coalescer: Coalescer[frames.Operation, frames.Answer] = Coalescer(
            self._channel,
            _EXCHANGE,
            encode=frames.encode,
            decode=frames.decode_answers,
            is_read=_is_read,
            timeout_s=_QUERY_TIMEOUT_SECONDS,
        )

    def submit(self, op: frames.Operation, callback: Callable[[frames.Answer | TovukError], None]) -> None:
        """Send a short statement; the callback gets its answer or an error later, never from within this call."""
        self._coalescer.submit(op, callback)

    async def run(self, request: pb.RunRequest, *, is_read: bool) -> bytes:
        """The answer's JSON. Cancelled, the query is interrupted."""
        stream = self._channel.receive_stream(
            self._data.Run, request, timeout_s=_QUERY_TIMEOUT_SECONDS, is_read=is_read
        )
        async with aclosing(stream):
            return b"".join([reply.chunk async for reply in stream])

    async def create_database(self, account_id: str, service_id: str, name: str) -> pb.Database:
        """A new database."""
        request = pb.CreateDatabaseRequest(account_id=account_id, service_id=service_id, name=name)
        reply: pb.Database = await self._channel.unary(self._admin.CreateDatabase, request, retry=False)
        return reply

    async def delete_database(self, account_id: str, service_id: str, database: str) -> str:
        """The id of the database that is gone."""
        target = pb.Target(account_id=account_id, service_id=service_id, database=database)
        request = pb.DeleteDatabaseRequest(target=target)
        reply: pb.DeleteDatabaseReply = await self._channel.unary(self._admin.DeleteDatabase, request, retry=False)
        return reply.id

    async def list_databases(self, service_id: str) -> list[pb.Database]:
        """Every database of the service, by name."""
        request = pb.ListDatabasesRequest(service_id=service_id)
        reply: pb.ListDatabasesReply = await self._channel.unary(
            self._admin.ListDatabases, request, timeout_s=3.0, retry=True
        )
        return list(reply.databases)

    async def create_backup(self, target: pb.Target, plan: str) -> pb.Backup:
        """A backup on its way."""
        request = pb.CreateBackupRequest(target=target, plan=plan)
        reply: pb.Backup = await self._channel.unary(self._admin.CreateBackup, request, retry=False)
        return reply

    async def backups(self, target: pb.Target) -> pb.ListBackupsReply:
        """The database's backups and restores."""
        reply: pb.ListBackupsReply = await self._channel.unary(
            self._admin.ListBackups, pb.ListBackupsRequest(target=target), timeout_s=3.0, retry=True
        )
        return reply

    async def restore(self, request: pb.RestoreRequest) -> pb.RestoreState:
        """A restore on its way."""
        reply: pb.RestoreState = await self._channel.unary(self._admin.Restore, request, retry=False)
        return reply

    async def counts_rows_read(self) -> bool:
        """Whether the engine counts rows read exactly."""
        reply: pb.DescribeReply = await self._channel.unary(
            self._admin.Describe, pb.DescribeRequest(), timeout_s=3.0, retry=True
        )
        return reply.rows_read_exact

    async def close(self) -> None:
        """Answer what is pending, then end every channel."""
        await self._coalescer.close()
        for channel in self.channels:
            await channel.close()
