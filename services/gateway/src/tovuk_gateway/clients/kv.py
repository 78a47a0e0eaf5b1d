"""KV as the gateway sees it: small operations coalesced over one stream a replica, large ones by the chunked calls.

A key belongs to one replica by hash, so that the replicas' caches and groups do not overlap; any replica can serve any
key, so an operation moves on to the next one where nothing was done or where repeating does no harm.
"""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Any, Final
from zlib import crc32

from tovuk.kv.v1 import frames
from tovuk.kv.v1 import kv_pb2 as pb
from tovuk.kv.v1 import kv_pb2_grpc as stubs
from tovuk_kit.channel import Coalescer
from tovuk_kit.client import Channel
from tovuk_kit.errors import ServiceUnavailable, TovukError

Result = frames.Answer | TovukError

#: The data channel's method.
_EXCHANGE: Final = "/tovuk.kv.v1.KvData/Exchange"
_READS: Final = (frames.Get, frames.List)
#: A value of 25 MiB to a store on a slow disk.
_LARGE_TIMEOUT_SECONDS: Final = 60.0


def _is_read(op: frames.Operation) -> bool:
    return isinstance(op, _READS)


class Replica:
    """One KV process: its data channel and its stubs."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.data = stubs.KvDataStub(channel.grpc)
        self.admin = stubs.KvAdminStub(channel.grpc)
        self.coalescer: Coalescer[frames.Operation, frames.Answer] = Coalescer(
            channel, _EXCHANGE, encode=frames.encode, decode=frames.decode_answers, is_read=_is_read
        )

    async def close(self) -> None:
        """Answer what is pending, then end the channel."""
        await self.coalescer.close()
        await self.channel.close()


class KvClient:
    """Calls to KV, over all replicas. Must be made within a running event loop."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self.replicas = tuple(replicas)
        self._only = self.replicas[0].coalescer if len(self.replicas) == 1 else None

    def submit(self, op: Any, callback: Callable[[Result], None]) -> None:
        """Send a frame operation; the callback gets its answer or an error later, never from within this call."""
        if self._only is not None:
            self._only.submit(op, callback)
        else:
            _Attempt(self.replicas, self._first(op.service, op.key), op, callback).send()

    async def list_keys(self, op: frames.List) -> frames.Answer:
        """The answer to a list."""
        answer: frames.Answer = await self._anywhere(op.service, lambda replica: replica.coalescer.call(op))
        return answer

    async def put_large(
        self, head: pb.PutHead, chunks: Callable[[], AsyncIterable[bytes]], *, timeout_s: float = _LARGE_TIMEOUT_SECONDS
    ) -> pb.PutLargeReply:
        """Write a value chunk by chunk. `chunks` is called once an attempt; only what was never sent is repeated."""

        async def requests() -> AsyncIterator[pb.PutLargeRequest]:
            yield pb.PutLargeRequest(head=head)
            async for chunk in chunks():
                yield pb.PutLargeRequest(chunk=chunk)

        reply: pb.PutLargeReply = await self._anywhere(
            head.target.service_id,
            lambda replica: replica.channel.send_stream(replica.data.PutLarge, requests(), timeout_s=timeout_s),
            key=head.key,
        )
        return reply

    async def get_large(self, request: pb.GetLargeRequest) -> tuple[pb.GetHead, AsyncIterator[bytes]]:
        """A value's head and its chunks; exhaust or close the chunks."""
        stream, first = await self._first_of_stream(
            request.target.service_id, lambda replica: replica.data.GetLarge, request, key=request.key
        )

        async def chunks() -> AsyncIterator[bytes]:
            async with aclosing(stream):
                async for message in stream:
                    yield message.chunk

        return first.head, chunks()

    async def bulk_put(self, head: pb.BulkPutHead, batches: Callable[[], Iterable[bytes]]) -> pb.BulkReply:
        """Write many keys; all are checked before the first is applied.

        `batches` is called once an attempt, and gives payloads of frames.BulkEntry, the next whenever there is room.
        """

        async def requests() -> AsyncIterator[pb.BulkPutRequest]:
            first: pb.BulkPutHead | None = head
            for batch in batches():
                yield pb.BulkPutRequest(head=first, entries=batch)
                first = None
            if first is not None:
                yield pb.BulkPutRequest(head=head, entries=frames.encode([]))

        reply: pb.BulkReply = await self._anywhere(
            head.target.service_id,
            lambda replica: replica.channel.send_stream(
                replica.data.BulkPut, requests(), timeout_s=_LARGE_TIMEOUT_SECONDS
            ),
        )
        return reply

    async def bulk_get(self, request: pb.BulkGetRequest) -> AsyncGenerator[list[frames.BulkValue | None], None]:
        """Values in request order, some at a time, from the first on; exhaust or close the iteration."""
        stream, first = await self._first_of_stream(
            request.target.service_id, lambda replica: replica.data.BulkGet, request
        )

        async def values() -> AsyncGenerator[list[frames.BulkValue | None], None]:
            async with aclosing(stream):
                yield frames.decode_bulk_values(first.entries)
                async for message in stream:
                    yield frames.decode_bulk_values(message.entries)

        return values()

    async def bulk_delete(self, request: pb.BulkDeleteRequest) -> pb.BulkReply:
        """Delete many keys."""
        reply: pb.BulkReply = await self._anywhere(
            request.target.service_id,
            lambda replica: replica.channel.unary(
                replica.data.BulkDelete, request, timeout_s=_LARGE_TIMEOUT_SECONDS, retry=False
            ),
        )
        return reply

    async def create_namespace(self, account_id: str, service_id: str, name: str) -> pb.Namespace:
        """A new namespace."""
        request = pb.CreateNamespaceRequest(account_id=account_id, service_id=service_id, name=name)
        reply: pb.Namespace = await self._anywhere(
            service_id, lambda replica: replica.channel.unary(replica.admin.CreateNamespace, request, retry=False)
        )
        return reply

    async def delete_namespace(self, account_id: str, service_id: str, namespace: str) -> str:
        """The id of the namespace that is gone."""
        target = pb.Target(account_id=account_id, service_id=service_id, namespace=namespace)
        request = pb.DeleteNamespaceRequest(target=target)
        reply = await self._anywhere(
            service_id, lambda replica: replica.channel.unary(replica.admin.DeleteNamespace, request, retry=False)
        )
        return str(reply.id)

    async def list_namespaces(self, service_id: str) -> list[pb.Namespace]:
        """Every namespace of the service, by name."""
        request = pb.ListNamespacesRequest(service_id=service_id)
        # With another replica at hand there is no point in repeating at the first.
        reply = await self._anywhere(
            service_id,
            lambda replica: replica.channel.unary(
                replica.admin.ListNamespaces, request, timeout_s=3.0, retry=len(self.replicas) == 1
            ),
        )
        return list(reply.namespaces)

    async def close(self) -> None:
        """Answer what is pending, then end every channel."""
        for replica in self.replicas:
            await replica.close()

    def _first(self, service_id: str, key: bytes) -> int:
        return crc32(b"%b/%b" % (service_id.encode(), key)) % len(self.replicas)

    async def _anywhere(self, service_id: str, call: Callable[[Replica], Awaitable[Any]], key: bytes = b"") -> Any:
        """The first answer of a replica; ServiceUnavailable, which says that nothing was done, moves on to the next."""
        first = self._first(service_id, key)
        for attempt in range(len(self.replicas)):
            try:
                return await call(self.replicas[(first + attempt) % len(self.replicas)])
            except ServiceUnavailable:
                if attempt == len(self.replicas) - 1:
                    raise
        raise AssertionError("there is at least one replica")

    async def _first_of_stream(
        self, service_id: str, method: Callable[[Replica], Any], request: Any, key: bytes = b""
    ) -> tuple[Any, Any]:
        async def begin(replica: Replica) -> tuple[Any, Any]:
            stream = replica.channel.receive_stream(method(replica), request, timeout_s=_LARGE_TIMEOUT_SECONDS)
            return stream, await anext(stream)

        begun: tuple[Any, Any] = await self._anywhere(service_id, begin, key=key)
        return begun


class _Attempt:
    """An operation on its way through the replicas."""

    __slots__ = ("_at", "_callback", "_left", "_op", "_replicas")

    def __init__(self, replicas: Sequence[Replica], first: int, op: Any, callback: Callable[[Result], None]) -> None:
        self._replicas = replicas
        self._at = first
        self._left = len(replicas)
        self._op = op
        self._callback = callback

    def send(self) -> None:
        replica = self._replicas[self._at]
        self._at = (self._at + 1) % len(self._replicas)
        self._left -= 1
        replica.coalescer.submit(self._op, self._settle)

    def _settle(self, result: Result) -> None:
        if isinstance(result, ServiceUnavailable) and self._left:
            self.send()
        else:
            self._callback(result)
