"""Which shard a database lies at, as control says and as is remembered; and the way to each shard.

What is remembered may be wrong at any time. Nobody is harmed: a shard that does not have a database says so, or cannot
be reached, before it has done anything, and control is asked then.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

from tovuk.sqlite.v1 import frames
from tovuk.sqlite.v1 import sqlite_pb2_grpc as stubs
from tovuk_gateway.clients.control import ControlClient
from tovuk_gateway.limits import PLACEMENT_CACHE_ENTRIES_MAX
from tovuk_kit import tasks
from tovuk_kit.channel import Coalescer
from tovuk_kit.client import Channel
from tovuk_kit.errors import Outcome, ServiceUnavailable, TovukError

#: A query may take 25 s, and wait for others before.
QUERY_TIMEOUT_SECONDS: Final = 29.0
#: The data channel's method.
_EXCHANGE: Final = "/tovuk.sqlite.v1.SqliteData/Exchange"
#: What a shard says of a database that is not there, or not for it to serve.
_ELSEWHERE: Final = frozenset({"sqlite_database_not_found", "sqlite_shard_not_owned", ServiceUnavailable.code})
#: How long calls to a shard that has another address now may go on.
_LEAVING_S: Final = 30.0
_RETRY_AFTER_MS: Final = 1_000

T = TypeVar("T")


def _is_read(op: frames.Operation) -> bool:
    return isinstance(op, frames.Read)


class Shard:
    """One process of the sqlite service."""

    def __init__(self, name: str, channel: Channel) -> None:
        self.name = name
        self.channel = channel
        self.data = stubs.SqliteDataStub(channel.grpc)
        self.admin = stubs.SqliteAdminStub(channel.grpc)
        self.coalescer: Coalescer[frames.Operation, frames.Answer] = Coalescer(
            channel,
            _EXCHANGE,
            encode=frames.encode,
            decode=frames.decode_answers,
            is_read=_is_read,
            timeout_s=QUERY_TIMEOUT_SECONDS,
        )

    async def close(self) -> None:
        """Answer what is pending, then end the channel."""
        await self.coalescer.close()
        await self.channel.close()


class Shards:
    """The shards and the databases there. Must be made within a running event loop."""

    def __init__(self, control: ControlClient, internal_key: str) -> None:
        self._control = control
        self._key = internal_key
        self._shards: dict[str, Shard] = {}
        #: Names of shards by service and, within it, by the database's id or name as it was asked for.
        self._places: dict[str, dict[str, str]] = {}
        self._remembered = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def known(self, service_id: str, ref: str) -> Shard | None:
        """The shard that is remembered for the database."""
        name = self._places.get(service_id, {}).get(ref)
        return None if name is None else self._shards.get(name)

    def forget(self, service_id: str) -> None:
        """Ask control again where the service's databases lie."""
        self._remembered -= len(self._places.pop(service_id, ()))

    def look_again(self) -> None:
        """A shard may have another process now, at another address."""
        self._start(self._look())

    async def at(self, service_id: str, ref: str, call: Callable[[Shard], Awaitable[T]]) -> T:
        """What `call` gives at the database's shard.

        It is called again where the first shard turns out not to be the database's; a shard that did something is never
        followed by another. Raises what the calls raise, and what control says of a database that is nowhere.
        """
        shard = self.known(service_id, ref) or await self._locate(service_id, ref)
        try:
            return await call(shard)
        except TovukError as error:
            if error.code not in _ELSEWHERE or error.outcome is not Outcome.NOT_DONE:
                raise
            try:
                await self._refresh()
                there = await self._locate(service_id, ref)
            except ServiceUnavailable:
                # Control is away, too; what the shard said is nearer to the caller's matter.
                raise error from None
            if there is shard:
                raise
        return await call(there)

    async def every(self) -> list[Shard]:
        """Every shard, the best place for a new database first."""
        listed = await self._refresh()
        return [self._shards[name] for name in listed]

    async def of_service(self, service_id: str) -> dict[Shard, set[str]]:
        """The shards where databases of the service lie or are being created, and the ids of those that exist."""
        found: dict[Shard, set[str]] = {}
        for placement in await self._control.list_placements(service_id):
            shard = await self._named(placement.shard)
            ids = found.setdefault(shard, set())
            if placement.confirmed:
                ids.add(placement.database_id)
        return found

    async def close(self) -> None:
        """End every channel."""
        await tasks.end(self._tasks)
        for shard in self._shards.values():
            await shard.close()

    async def _locate(self, service_id: str, ref: str) -> Shard:
        placement = await self._control.locate_database(service_id, ref)
        shard = await self._named(placement.shard)
        if self._remembered >= PLACEMENT_CACHE_ENTRIES_MAX:
            self.forget(next(iter(self._places)))
        places = self._places.setdefault(service_id, {})
        self._remembered += ref not in places
        places[ref] = shard.name
        return shard

    async def _named(self, name: str) -> Shard:
        if name not in self._shards:
            await self._refresh()
        shard = self._shards.get(name)
        if shard is None:
            raise ServiceUnavailable(retry_after_ms=_RETRY_AFTER_MS, service="sqlite")
        return shard

    async def _refresh(self) -> list[str]:
        """Learn the shards' addresses; their names, the live ones first, and among them the emptiest."""
        listed = await self._control.list_shards()
        for told in listed:
            before = self._shards.get(told.name)
            if before is None or before.channel.target != told.address:
                self._shards[told.name] = Shard(told.name, Channel(told.address, self._key, "sqlite"))
                if before is not None:
                    self._start(_close_later(before))
        return [told.name for told in sorted(listed, key=lambda told: not told.live)]

    async def _look(self) -> None:
        with suppress(TovukError):
            await self._refresh()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _close_later(shard: Shard) -> None:
    try:
        await asyncio.sleep(_LEAVING_S)
    finally:
        await shard.close()
