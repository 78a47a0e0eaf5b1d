"""Control as this owner calls it: the claim of its shard, and the moves of its databases."""

from dataclasses import dataclass
from typing import Protocol

from tovuk.control.v1 import control_pb2 as wire
from tovuk.control.v1.control_pb2_grpc import ShardsStub
from tovuk_kit.client import Channel

#: A claim is answered at once, or control is away.
_CLAIM_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class StandingClaim:
    """The claim on a shard that stands, and whether it is the caller's."""

    owned: bool
    fencing: int
    renewals: int
    lasts_ms: int


class ShardClaims(Protocol):
    """Claims of one shard by one process."""

    async def claim(self, lasts_ms: int, ended: tuple[int, int]) -> StandingClaim:
        """Claim or renew. `ended` is another's claim, (fencing, renewals), that was seen to end. Raises TovukError."""
        ...

    async def release(self) -> None:
        """Give the shard up. Raises TovukError."""
        ...


class ControlShard:
    """The ShardClaims of this process, at control."""

    def __init__(self, channel: Channel, *, shard: str, address: str, store: str, lock: str, holder: str) -> None:
        """`store` and `lock` are the ids of the data folder and of its lock; `holder` is this process's."""
        self._channel = channel
        self._stub = ShardsStub(channel.grpc)
        self._shard = shard
        self._address = address
        self._store = store
        self._lock = lock
        self._holder = holder

    async def claim(self, lasts_ms: int, ended: tuple[int, int]) -> StandingClaim:
        request = wire.ClaimShardRequest(
            shard=self._shard,
            address=self._address,
            store=self._store,
            lock=self._lock,
            holder=self._holder,
            lasts_ms=lasts_ms,
            ended_fencing=ended[0],
            ended_renewals=ended[1],
        )
        reply: wire.ClaimShardReply = await self._channel.unary(
            self._stub.ClaimShard, request, timeout_s=_CLAIM_TIMEOUT_S, retry=True
        )
        return StandingClaim(reply.owned, reply.fencing, reply.renewals, reply.lasts_ms)

    async def release(self) -> None:
        request = wire.ReleaseShardRequest(shard=self._shard, holder=self._holder)
        await self._channel.unary(self._stub.ReleaseShard, request, timeout_s=_CLAIM_TIMEOUT_S, retry=True)


@dataclass(frozen=True, slots=True)
class Move:
    """A database that is to leave this shard."""

    database_id: str
    to: str
    #: Where the shard it moves to is reached.
    address: str


@dataclass(frozen=True, slots=True)
class Placed:
    """A database that lies at the shard."""

    id: str
    name: str
    service_id: str
    account_id: str
    created_at_ms: int


class ControlMoves:
    """The moves of one shard's databases; raises what Channel.unary raises."""

    def __init__(self, channel: Channel, shard: str) -> None:
        self._channel = channel
        self._stub = ShardsStub(channel.grpc)
        self.shard = shard

    async def databases(self) -> tuple[str, list[Placed]]:
        """The id of the shard's data folder, and what lies at the shard."""
        request = wire.ListShardDatabasesRequest(shard=self.shard)
        reply: wire.ListShardDatabasesReply = await self._channel.unary(
            self._stub.ListShardDatabases, request, retry=True
        )
        placed = [
            Placed(told.id, told.name, told.service_id, told.account_id, told.created_at_ms) for told in reply.databases
        ]
        return reply.store, placed

    async def moves(self) -> list[Move]:
        """What is to leave."""
        request = wire.ListMovesRequest(shard=self.shard)
        reply: wire.ListMovesReply = await self._channel.unary(self._stub.ListMoves, request, retry=True)
        return [Move(move.database_id, move.to, move.address) for move in reply.moves]

    async def commit(self, database_id: str, to: str, fencing: int) -> str:
        """Where the database lies from now on. To this shard itself: it stays, whatever was to be."""
        request = wire.CommitMoveRequest(database_id=database_id, shard=self.shard, fencing=fencing, to=to)
        reply: wire.CommitMoveReply = await self._channel.unary(
            self._stub.CommitMove, request, timeout_s=_CLAIM_TIMEOUT_S, retry=True
        )
        return reply.shard

    async def locate(self, service_id: str, database_id: str) -> tuple[str, str]:
        """The shard where a database lies, and the one it is to move to; raises RemoteError for one that is nowhere."""
        request = wire.LocateDatabaseRequest(service_id=service_id, ref=database_id)
        reply: wire.Placement = await self._channel.unary(
            self._stub.LocateDatabase, request, timeout_s=_CLAIM_TIMEOUT_S, retry=True
        )
        return reply.shard, reply.moving_to
