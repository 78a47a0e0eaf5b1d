"""Another shard, as the one that a database leaves calls it."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Final

from tovuk.sqlite.v1 import sqlite_pb2 as wire
from tovuk.sqlite.v1.sqlite_pb2_grpc import SqliteAdminStub
from tovuk_kit.client import Channel

#: For the whole of a large file on slow disks.
_TIMEOUT_S: Final = 3_600.0


@dataclass(frozen=True, slots=True)
class Arriving:
    """A database as it is to be at the shard it moves to."""

    id: str
    name: str
    service_id: str
    account_id: str
    created_at_ms: int
    generation: int


class OtherShard:
    """Its one call."""

    def __init__(self, address: str, internal_key: str) -> None:
        self._channel = Channel(address, internal_key, "sqlite")
        self._stub = SqliteAdminStub(self._channel.grpc)

    async def send(
        self,
        arriving: Arriving,
        pieces: AsyncIterator[Iterable[tuple[int, bytes]]],
        *,
        anew: bool = False,
        size_bytes: int = 0,
    ) -> None:
        """Pieces of the file by their offsets; with its size, the last ones. Raises what Channel.send_stream raises."""

        async def requests() -> AsyncIterator[wire.ReceiveDatabaseRequest]:
            database = wire.ArrivingDatabase(
                id=arriving.id,
                name=arriving.name,
                service_id=arriving.service_id,
                account_id=arriving.account_id,
                created_at_ms=arriving.created_at_ms,
                generation=arriving.generation,
            )
            yield wire.ReceiveDatabaseRequest(database=database, anew=anew)
            async for some in pieces:
                for offset, data in some:
                    yield wire.ReceiveDatabaseRequest(offset=offset, data=data)
            if size_bytes:
                yield wire.ReceiveDatabaseRequest(size_bytes=size_bytes)

        # Repeated, it is the same: bytes at their places.
        await self._channel.send_stream(self._stub.ReceiveDatabase, requests(), timeout_s=_TIMEOUT_S, is_read=True)

    async def close(self) -> None:
        """End the channel."""
        await self._channel.close()
