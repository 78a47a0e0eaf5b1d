"""Another shard, as the one that a database leaves calls it."""

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final, NamedTuple

from tovuk.sqlite.v1 import sqlite_pb2 as wire
from tovuk.sqlite.v1.sqlite_pb2_grpc import SqliteAdminStub
from tovuk_kit.client import Channel
from tovuk_sqlite.clients.backups import kept_told
from tovuk_sqlite.store.backups import Kept
from tovuk_sqlite.store.base import Database

#: For the whole of a large file on slow disks.
_TIMEOUT_S: Final = 3_600.0
#: For what is answered at once, or from a listing of the archive.
_ASKED_TIMEOUT_S: Final = 30.0


class Arriving(NamedTuple):
    """A database as it is to be at the shard it moves to."""

    database: Database
    #: Of this attempt to move it, and of no other.
    attempt: str


class OtherShard:
    """The calls of one attempt. Each raises what Channel.unary raises."""

    def __init__(self, address: str, internal_key: str) -> None:
        self._channel = Channel(address, internal_key, "sqlite")
        self._stub = SqliteAdminStub(self._channel.grpc)

    async def begin(self, arriving: Arriving, probe: str) -> bool:
        """Begin the attempt; whether the other shard's archive has the probe, a name within the database's folder."""
        request = wire.BeginArrivalRequest(database=_database(arriving), probe=probe)
        reply: wire.BeginArrivalReply = await self._channel.unary(
            self._stub.BeginArrival, request, timeout_s=_ASKED_TIMEOUT_S, retry=True
        )
        return reply.shares_archive

    async def missing(self, arriving: Arriving, folder: str, names: Sequence[str]) -> list[str]:
        """Those of a folder's names that the other shard's archive lacks."""
        request = wire.OfferObjectsRequest(database=_database(arriving), folder=folder, names=names)
        reply: wire.OfferObjectsReply = await self._channel.unary(
            self._stub.OfferObjects, request, timeout_s=_ASKED_TIMEOUT_S, retry=True
        )
        return list(reply.missing)

    async def put(
        self, arriving: Arriving, name: str, size_bytes: int, sha256: str, content: AsyncIterator[bytes]
    ) -> None:
        """Put an object into the other shard's archive."""

        async def requests() -> AsyncIterator[wire.ReceiveObjectRequest]:
            yield wire.ReceiveObjectRequest(
                database=_database(arriving), name=name, size_bytes=size_bytes, sha256=sha256
            )
            async for data in content:
                yield wire.ReceiveObjectRequest(data=data)

        await self._channel.send_stream(self._stub.ReceiveObject, requests(), timeout_s=_TIMEOUT_S, is_read=True)

    async def send(
        self, arriving: Arriving, pieces: AsyncIterator[Iterable[tuple[int, bytes]]], *, anew: bool = False
    ) -> None:
        """Pieces of the file by their offsets."""

        async def requests() -> AsyncIterator[wire.ReceiveDatabaseRequest]:
            yield wire.ReceiveDatabaseRequest(database=_database(arriving), anew=anew)
            async for some in pieces:
                for offset, data in some:
                    yield wire.ReceiveDatabaseRequest(offset=offset, data=data)

        # Repeated, it is the same: bytes at their places.
        await self._channel.send_stream(self._stub.ReceiveDatabase, requests(), timeout_s=_TIMEOUT_S, is_read=True)

    async def complete(self, arriving: Arriving, size_bytes: int, kept: Kept) -> None:
        """All has been sent: the file, of so many bytes, and what the database can be put back to."""

        async def requests() -> AsyncIterator[wire.ReceiveDatabaseRequest]:
            yield wire.ReceiveDatabaseRequest(database=_database(arriving))
            yield kept_told(kept, size_bytes)

        await self._channel.send_stream(self._stub.ReceiveDatabase, requests(), timeout_s=_TIMEOUT_S, is_read=True)

    async def close(self) -> None:
        """End the channel."""
        await self._channel.close()


def _database(arriving: Arriving) -> wire.ArrivingDatabase:
    database = arriving.database
    return wire.ArrivingDatabase(
        id=database.id,
        name=database.name,
        service_id=database.service_id,
        account_id=database.account_id,
        created_at_ms=database.created_at_ms,
        generation=database.generation,
        attempt=arriving.attempt,
    )
