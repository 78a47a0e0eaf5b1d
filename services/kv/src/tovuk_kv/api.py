"""gRPC: wire to domain and back, and nothing else.

Hot path: 3 µs of CPU an operation. Frames become calls of the noun, answers become frames; no task, no await between.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing
from functools import partial

from tovuk.common.v1.frames import Failed
from tovuk.kv.v1 import frames
from tovuk.kv.v1 import kv_pb2 as wire
from tovuk.kv.v1.kv_pb2_grpc import (
    KvAdminServicer,
    KvDataServicer,
    add_KvAdminServicer_to_server,
    add_KvDataServicer_to_server,
)
from tovuk_kit.errors import TovukError
from tovuk_kit.exchange import Exchange, failed
from tovuk_kit.server import Registration
from tovuk_kv.bulk import Bulk, EntryPart
from tovuk_kv.directory import Target
from tovuk_kv.lifecycle import Lifecycle
from tovuk_kv.limits import CHUNK_BYTES
from tovuk_kv.namespace import GetAnswer, Namespaces, NotModified, TooLarge
from tovuk_kv.setbacks import WriteAnswer
from tovuk_kv.store.base import Delete, KeyEntry, Namespace, Put, Record, Stored
from tovuk_kv.validation import parse_condition

Reply = Callable[[frames.Answer | Failed], None]


def registrations(namespaces: Namespaces, bulk: Bulk, lifecycle: Lifecycle) -> Sequence[Registration]:
    """Both planes, to be added to a server."""
    return (
        partial(add_KvDataServicer_to_server, KvData(namespaces, bulk)),
        partial(add_KvAdminServicer_to_server, KvAdmin(lifecycle)),
    )


def exchange(namespaces: Namespaces) -> Exchange[frames.Operation, frames.Answer]:
    """The data plane's coalesced operations, to be served beside it."""
    return Exchange(
        method="/tovuk.kv.v1.KvData/Exchange",
        decode=frames.decode_operations,
        encode=frames.encode,
        handle=partial(_handle, namespaces),
    )


class KvData(KvDataServicer):
    """The data plane but for `Exchange`, which is not served by grpc.aio."""

    def __init__(self, namespaces: Namespaces, bulk: Bulk) -> None:
        self._namespaces = namespaces
        self._bulk = bulk

    async def PutLarge(  # noqa: N802
        self, request_iterator: AsyncIterator[wire.PutLargeRequest], context: object
    ) -> wire.PutLargeReply:
        head = (await anext(request_iterator, wire.PutLargeRequest())).head
        conditions = (parse_condition(head.if_match), parse_condition(head.if_none_match))
        stored = await self._namespaces.put_stream(
            _target(head.target),
            Put(head.key, b"", head.meta.encoding, head.meta.metadata, *conditions),
            head.value_bytes,
            head.meta.expires_at,
            head.ttl_seconds,
            (request.chunk async for request in request_iterator),
        )
        return wire.PutLargeReply(version=stored.version, expires_at=stored.expires_at)

    async def GetLarge(  # noqa: N802
        self, request: wire.GetLargeRequest, context: object
    ) -> AsyncIterator[wire.GetLargeReply]:
        value = await self._namespaces.open(_target(request.target), request.key, request.if_none_match)
        if isinstance(value, NotModified):
            yield wire.GetLargeReply(head=wire.GetHead(version=value.version, not_modified=True))
            return
        try:
            record = value.record
            head = wire.GetHead(meta=_meta(record), version=record.version, value_bytes=record.value_bytes)
            yield wire.GetLargeReply(head=head)
            async for chunk in value.chunks():
                yield wire.GetLargeReply(chunk=chunk)
        finally:
            await value.close()

    async def BulkPut(  # noqa: N802
        self, request_iterator: AsyncIterator[wire.BulkPutRequest], context: object
    ) -> wire.BulkReply:
        first = await anext(request_iterator, wire.BulkPutRequest())
        head = first.head
        applied = await self._bulk.put(_target(head.target), head.entries, _batches(first, request_iterator))
        return wire.BulkReply(applied=applied.applied)

    async def BulkGet(  # noqa: N802
        self, request: wire.BulkGetRequest, context: object
    ) -> AsyncIterator[wire.BulkGetReply]:
        entries: list[frames.BulkValue | None] = []
        size = 0
        async with aclosing(self._bulk.get(_target(request.target), list(request.keys))) as values:
            async for value in values:
                if value is None:
                    entries.append(None)
                elif isinstance(value, Record):
                    entries.append(_bulk_value(value, value.value or b"", more=False))
                    size += value.value_bytes
                else:
                    left = value.record.value_bytes
                    async for chunk in value.chunks():
                        left -= len(chunk)
                        entries.append(_bulk_value(value.record, chunk, more=left > 0))
                        yield wire.BulkGetReply(entries=frames.encode(entries))
                        entries.clear()
                    if not value.record.value_bytes:
                        # It was replaced by an empty one since the look at all keys.
                        entries.append(_bulk_value(value.record, b"", more=False))
                if size >= CHUNK_BYTES:
                    yield wire.BulkGetReply(entries=frames.encode(entries))
                    entries.clear()
                    size = 0
        if entries:
            yield wire.BulkGetReply(entries=frames.encode(entries))

    async def BulkDelete(self, request: wire.BulkDeleteRequest, context: object) -> wire.BulkReply:  # noqa: N802
        applied = await self._bulk.delete(_target(request.target), request.keys)
        return wire.BulkReply(applied=applied.applied, existed=applied.existed)


class KvAdmin(KvAdminServicer):
    """The admin plane."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle

    async def CreateNamespace(  # noqa: N802
        self, request: wire.CreateNamespaceRequest, context: object
    ) -> wire.Namespace:
        return _namespace(await self._lifecycle.create(request.account_id, request.service_id, request.name))

    async def DeleteNamespace(  # noqa: N802
        self, request: wire.DeleteNamespaceRequest, context: object
    ) -> wire.DeleteNamespaceReply:
        return wire.DeleteNamespaceReply(id=(await self._lifecycle.delete(_target(request.target))).id)

    async def ListNamespaces(  # noqa: N802
        self, request: wire.ListNamespacesRequest, context: object
    ) -> wire.ListNamespacesReply:
        found = await self._lifecycle.list(request.service_id)
        return wire.ListNamespacesReply(namespaces=[_namespace(namespace) for namespace in found])


def _handle(namespaces: Namespaces, op: frames.Operation, reply: Reply) -> None:
    target = Target(op.account, op.service, op.namespace)
    if isinstance(op, frames.Get):
        namespaces.get(target, op.key, op.if_none_match, partial(_got, op.id, reply))
    elif isinstance(op, frames.Put):
        conditions = (parse_condition(op.if_match), parse_condition(op.if_none_match))
        namespaces.put(
            target,
            Put(op.key, op.value, op.encoding, op.metadata, *conditions),
            expires_at=op.expires_at,
            ttl_seconds=op.ttl_seconds,
            answer=partial(_written, op.id, reply),
        )
    elif isinstance(op, frames.Delete):
        delete = Delete(op.key, parse_condition(op.if_match), "")
        namespaces.delete(target, delete, partial(_written, op.id, reply))
    else:
        namespaces.list(target, op.prefix, op.limit, op.cursor, partial(_listed, op.id, reply))


def _got(operation: int, reply: Reply, answer: GetAnswer) -> None:
    if isinstance(answer, Record):
        assert answer.value is not None
        reply(
            frames.Value(operation, answer.value, answer.encoding, answer.metadata, answer.expires_at, answer.version)
        )
    elif isinstance(answer, TovukError):
        reply(failed(operation, answer))
    elif isinstance(answer, TooLarge):
        reply(frames.Large(operation))
    else:
        reply(frames.NotModified(operation, answer.version))


def _written(operation: int, reply: Reply, answer: WriteAnswer) -> None:
    if isinstance(answer, TovukError):
        reply(failed(operation, answer))
    elif isinstance(answer, Stored):
        reply(frames.Stored(operation, answer.version, answer.expires_at))
    else:
        reply(frames.Deleted(operation, answer.existed))


def _listed(operation: int, reply: Reply, answer: tuple[list[KeyEntry], str] | TovukError) -> None:
    if isinstance(answer, TovukError):
        reply(failed(operation, answer))
        return
    entries, cursor = answer
    keys = [frames.KeyEntry(e.key, e.metadata, e.expires_at, e.version, e.value_bytes) for e in entries]
    reply(frames.Page(operation, keys, cursor))


async def _batches(
    first: wire.BulkPutRequest, rest: AsyncIterator[wire.BulkPutRequest]
) -> AsyncIterator[Iterable[EntryPart]]:
    yield frames.decode_bulk_entries(first.entries)
    async for request in rest:
        yield frames.decode_bulk_entries(request.entries)


def _bulk_value(record: Record, value: bytes, *, more: bool) -> frames.BulkValue:
    return frames.BulkValue(value, record.encoding, record.metadata, record.expires_at, record.version, more)


def _target(target: wire.Target) -> Target:
    return Target(target.account_id, target.service_id, target.namespace)


def _meta(record: Record) -> wire.Meta:
    return wire.Meta(encoding=record.encoding, metadata=record.metadata, expires_at=record.expires_at)


def _namespace(namespace: Namespace) -> wire.Namespace:
    return wire.Namespace(
        id=namespace.id,
        name=namespace.name,
        service_id=namespace.service_id,
        created_at_ms=namespace.created_at_ms,
    )
