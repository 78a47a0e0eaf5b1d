"""The KV routes: HTTP ⇄ the data channel for small values, the chunked calls for large ones."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import orjson
from fastapi import APIRouter, Request, Security
from fastapi.responses import StreamingResponse

from tovuk.kv.v1 import frames
from tovuk.kv.v1 import kv_pb2 as pb
from tovuk_gateway import limits
from tovuk_gateway.bodies import check_type, declared_length, pieces, whole
from tovuk_gateway.chain import Need, need_capability
from tovuk_gateway.envelope import Answer, ok
from tovuk_gateway.errors import ValueInvalid, ValueTooLarge
from tovuk_gateway.routes import contract, kv_bulk, kv_streams, kv_values, models
from tovuk_gateway.routes.context import (
    Context,
    Key,
    NamespaceRef,
    Reply,
    ServiceRef,
    page_limit,
    query_text,
)
from tovuk_kit.errors import TovukError

_VALUES = "/v1/services/{service:segment}/kv/{namespace:segment}/values/{key:segment}"
_BULK = "/v1/services/{service:segment}/kv/{namespace:segment}/bulk"

_DATA = (
    "service_not_found",
    "capability_disabled",
    "kv_namespace_not_found",
    "usage_cap_reached",
    "payment_required",
    "metering_unavailable",
    "store_unavailable",
)
_KEY = ("kv_key_invalid", "kv_key_too_large")
_WRITE = ("outcome_unknown", "kv_precondition_failed")
_BODY = ("invalid_json", "body_too_large", "unsupported_media_type", "request_timeout", "invalid_request")
_VALUE = (
    "kv_value_invalid",
    "kv_value_too_large",
    "kv_metadata_invalid",
    "kv_metadata_too_large",
    "kv_ttl_too_short",
    "kv_expiration_invalid",
    "storage_full",
)

_IF_MATCH = contract.headers(If_Match="Only if the key has one of these ETags; * for any.")
_IF_NONE_MATCH = contract.headers(If_None_Match="Only if the key has none of these ETags; * for absent.")

#: Bytes of one chunk of a large value.
_CHUNK_BYTES = 256 * 1024


def router(context: Context) -> APIRouter:
    """Every KV route of values; namespaces are in `kv_namespaces`."""
    routes = APIRouter(tags=["kv"], dependencies=[Security(contract.bearer)])
    data = _Data(context)

    @routes.get(
        _VALUES,
        operation_id="getKvValue",
        summary="Read one key",
        responses=contract.answers(models.ValueAnswer, "kv_key_not_found", "invalid_request", *_DATA, *_KEY),
        openapi_extra={
            "parameters": [
                *contract.query(encoding={"type": "string", "enum": ["base64"]})["parameters"],
                *_IF_NONE_MATCH,
            ]
        },
    )
    async def get_value(request: Request, service: ServiceRef, namespace: NamespaceRef, key: Key) -> Any:
        """Meters one kv_reads, an absent key included. The ETag is the key's version; 304 when If-None-Match has it."""
        return await data.get(request, service, namespace, key)

    @routes.put(
        _VALUES,
        operation_id="putKvValue",
        summary="Write one key",
        responses=contract.answers(models.ValueStored, *_DATA, *_KEY, *_VALUE, *_BODY, *_WRITE),
        openapi_extra={**contract.body(models.ValuePut), "parameters": [*_IF_MATCH, *_IF_NONE_MATCH]},
    )
    async def put_value(request: Request, service: ServiceRef, namespace: NamespaceRef, key: Key) -> Any:
        """Replaces value, metadata and expiry as a whole; durable when answered. Meters one kv_writes."""
        return await data.put(request, service, namespace, key)

    @routes.delete(
        _VALUES,
        operation_id="deleteKvValue",
        summary="Delete one key",
        responses=contract.answers(models.ValueDeleted, *_DATA, *_KEY, *_WRITE, "invalid_request"),
        openapi_extra={"parameters": _IF_MATCH},
    )
    async def delete_value(request: Request, service: ServiceRef, namespace: NamespaceRef, key: Key) -> Any:
        """Meters one kv_deletes, whether the key was there or not."""
        return await data.delete(request, service, namespace, key)

    @routes.get(
        "/v1/services/{service:segment}/kv/{namespace:segment}/keys",
        operation_id="listKvKeys",
        summary="List keys",
        responses=contract.answers(models.KeyPage, *_DATA, "invalid_limit", "invalid_cursor", "invalid_request"),
        openapi_extra=contract.query(
            prefix={"type": "string"},
            limit={
                "type": "integer",
                "minimum": limits.KEY_PAGE_MIN,
                "maximum": limits.KEY_PAGE_MAX,
                "default": limits.KEY_PAGE_MAX,
            },
            cursor={"type": "string", "description": "From the page before, with the same prefix."},
        ),
    )
    async def list_keys(request: Request, service: ServiceRef, namespace: NamespaceRef) -> Any:
        """One page in byte order, strongly consistent. Meters one kv_lists."""
        return await data.list_keys(request, service, namespace)

    @routes.put(
        _BULK,
        operation_id="putKvBulk",
        summary="Write up to 10,000 keys",
        responses=contract.answers(
            models.BulkWritten, *_DATA, *_BODY, "kv_bulk_too_many", "kv_bulk_invalid", "storage_full", "outcome_unknown"
        ),
        openapi_extra=contract.body(models.BulkPut),
    )
    async def bulk_put(request: Request, service: ServiceRef, namespace: NamespaceRef) -> Any:
        """Checked and budgeted whole, then applied entry by entry. Meters one kv_writes an entry. Takes gzip."""
        return await data.bulk_put(request, service, namespace)

    @routes.post(
        _BULK,
        operation_id="getKvBulk",
        summary="Read up to 100 keys",
        responses=contract.answers(models.BulkRead, *_DATA, *_BODY, "kv_bulk_too_many", "kv_bulk_invalid"),
        openapi_extra=contract.body(models.BulkKeys),
    )
    async def bulk_get(request: Request, service: ServiceRef, namespace: NamespaceRef) -> Any:
        """In the order of the request, null where a key is absent. Meters one kv_reads a key. Takes gzip."""
        return await data.bulk_get(request, service, namespace)

    @routes.post(
        f"{_BULK}/removals",
        operation_id="deleteKvBulk",
        summary="Delete up to 10,000 keys",
        responses=contract.answers(
            models.BulkDeleted, *_DATA, *_BODY, "kv_bulk_too_many", "kv_bulk_invalid", "outcome_unknown"
        ),
        openapi_extra=contract.body(models.BulkKeys),
    )
    async def bulk_delete(request: Request, service: ServiceRef, namespace: NamespaceRef) -> Any:
        """Budgeted whole, then applied key by key. Meters one kv_deletes a key. Takes gzip."""
        return await data.bulk_delete(request, service, namespace)

    return routes


class _Data:
    """The work of the routes."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def get(self, request: Request, service_ref: str, namespace: str, key: str) -> Any:
        account_id, service_id = await self._admit(request, Need.DATA_READ, service_ref)
        base64 = kv_values.forced_base64(request.query_params.getlist("encoding"))
        op = kv_values.get_op(account_id, service_id, namespace, key, _header(request, "if-none-match"))
        answer = kv_values.answer_of(op, await self._call(op), base64=base64)
        return Reply(answer) if answer is not None else await self._get_large(op, base64=base64)

    async def _get_large(self, op: frames.Get, *, base64: bool) -> Any:
        target = pb.Target(account_id=op.account, service_id=op.service, namespace=op.namespace)
        head, chunks = await self._context.kv.get_large(
            pb.GetLargeRequest(target=target, key=op.key, if_none_match=op.if_none_match)
        )
        tag = kv_values.etag(head.version)
        if head.not_modified:
            return Reply(Answer(304, b"", ((b"etag", tag.encode()),)))
        encoding = "base64" if base64 else head.meta.encoding
        start = kv_values.entry_head(op.key, encoding, b"")[:-1]
        end = b'"' + kv_values.entry_tail(encoding, head.meta.metadata, head.meta.expires_at, head.version)
        stream = kv_streams.value_stream(start, chunks, encoding, end)
        return StreamingResponse(stream, media_type="application/json", headers={"etag": tag})

    async def put(self, request: Request, service_ref: str, namespace: str, key: str) -> Any:
        account_id, service_id = await self._admit(request, Need.DATA_WRITE, service_ref)
        length = declared_length(request.headers)
        if length is None or length > limits.SMALL_BODY_BYTES_MAX:
            return await self._put_large(request, account_id, service_id, namespace, key)
        body = await whole(request.receive, request.headers, limit_bytes=limits.SMALL_BODY_BYTES_MAX)
        if_match, if_none_match = _header(request, "if-match"), _header(request, "if-none-match")
        op = kv_values.put_op(account_id, service_id, namespace, key, body, if_match, if_none_match)
        return Reply(_complete(kv_values.answer_of(op, await self._call(op))))

    async def _put_large(self, request: Request, account_id: str, service_id: str, namespace: str, key: str) -> Any:
        check_type(request.headers)
        length = declared_length(request.headers)
        # A value's text is no longer than its body and no longer than the base64 of the largest value.
        held = min(length or limits.PUT_BODY_BYTES_MAX, 4 * limits.VALUE_BYTES_MAX // 3)
        async with self._context.gate.hold(held):
            reader = kv_streams.PutReader()
            async for piece in pieces(request.receive, limit_bytes=limits.PUT_BODY_BYTES_MAX, length=length):
                reader.feed(piece)
            content, text = reader.finish()
            fields = kv_values.fields_of(content)
            if not isinstance(content.get("value"), str):
                raise ValueInvalid(reason="value must be a string")
            value = kv_streams.decode_pieces(text, fields.encoding)
            size = sum(map(len, value))
            if size > limits.VALUE_BYTES_MAX:
                raise ValueTooLarge(limit_bytes=limits.VALUE_BYTES_MAX)
            head = pb.PutHead(
                target=pb.Target(account_id=account_id, service_id=service_id, namespace=namespace),
                key=key.encode(),
                meta=pb.Meta(encoding=fields.encoding, metadata=fields.metadata, expires_at=fields.expires_at),
                value_bytes=size,
                if_match=kv_values.condition(_header(request, "if-match"), weak=False),
                if_none_match=kv_values.condition(_header(request, "if-none-match"), weak=True),
                ttl_seconds=fields.ttl_seconds,
            )
            if size <= frames.INLINE_VALUE_BYTES_MAX:
                op = _inline(head, b"".join(value))
                return Reply(_complete(kv_values.answer_of(op, await self._call(op))))

            async def chunks() -> AsyncIterator[bytes]:
                for chunk in kv_streams.cut(value, _CHUNK_BYTES):
                    yield chunk

            reply = await self._context.kv.put_large(head, chunks)
            return Reply(kv_values.stored(head.key, size, reply.version, reply.expires_at))

    async def delete(self, request: Request, service_ref: str, namespace: str, key: str) -> Any:
        account_id, service_id = await self._admit(request, Need.DATA_WRITE, service_ref)
        op = kv_values.delete_op(account_id, service_id, namespace, key, _header(request, "if-match"))
        return Reply(_complete(kv_values.answer_of(op, await self._call(op))))

    async def list_keys(self, request: Request, service_ref: str, namespace: str) -> Any:
        account_id, service_id = await self._admit(request, Need.DATA_READ, service_ref)
        limit = page_limit(request, limits.KEY_PAGE_MIN, limits.KEY_PAGE_MAX, limits.KEY_PAGE_MAX)
        prefix, cursor = query_text(request, "prefix"), query_text(request, "cursor")
        page = await self._context.kv.list_keys(
            frames.List(0, account_id, service_id, namespace, prefix.encode(), limit, cursor)
        )
        if not isinstance(page, frames.Page):
            raise TypeError(f"{type(page).__name__} answers no list")
        return Reply(Answer(200, _page_json(page)))

    async def bulk_put(self, request: Request, service_ref: str, namespace: str) -> Any:
        account_id, service_id = await self._admit(request, Need.DATA_WRITE, service_ref)
        target = pb.Target(account_id=account_id, service_id=service_id, namespace=namespace)
        async with self._context.gate.hold(kv_bulk.bytes_to_hold(request.headers)):
            entries = kv_bulk.Entries(await kv_bulk.items(request, "entries", limits.BULK_WRITE_KEYS_MAX, "write"))
            head = pb.BulkPutHead(target=target, entries=len(entries))
            try:
                reply = await self._context.kv.bulk_put(head, entries.batches)
            except TovukError:
                entries.raise_wrong()
                raise
        return Reply(ok({"written": reply.applied}))

    async def bulk_get(self, request: Request, service_ref: str, namespace: str) -> Any:
        account_id, service_id = await self._admit(request, Need.DATA_WRITE, service_ref)
        keys = await self._bulk_keys(request, limits.BULK_READ_KEYS_MAX, "read")
        if not keys:
            return Reply(ok({"entries": []}))
        target = pb.Target(account_id=account_id, service_id=service_id, namespace=namespace)
        values = await self._context.kv.bulk_get(pb.BulkGetRequest(target=target, keys=keys))
        writer = kv_bulk.ValuesWriter(keys)
        body = writer.write(await anext(values))
        if not writer.complete:
            return StreamingResponse(_rest(body, writer, values), media_type="application/json")
        async for _ in values:
            raise TypeError("kv answers more keys than were asked for")
        return Reply(Answer(200, body))

    async def bulk_delete(self, request: Request, service_ref: str, namespace: str) -> Any:
        account_id, service_id = await self._admit(request, Need.DATA_WRITE, service_ref)
        keys = await self._bulk_keys(request, limits.BULK_WRITE_KEYS_MAX, "delete")
        target = pb.Target(account_id=account_id, service_id=service_id, namespace=namespace)
        reply = await self._context.kv.bulk_delete(pb.BulkDeleteRequest(target=target, keys=keys))
        return Reply(ok({"deleted": reply.existed, "requested": len(keys)}))

    async def _bulk_keys(self, request: Request, keys_max: int, operation: str) -> list[bytes]:
        async with self._context.gate.hold(kv_bulk.bytes_to_hold(request.headers)):
            return kv_bulk.keys_of(await kv_bulk.items(request, "keys", keys_max, operation))

    async def _admit(self, request: Request, need: Need, service_ref: str) -> tuple[str, str]:
        caller, service = await self._context.admit_to_service(request, need, service_ref)
        need_capability(service, "kv")
        return caller.account_id, service.id

    async def _call(self, op: Any) -> frames.Answer | TovukError:
        answered: asyncio.Future[frames.Answer | TovukError] = asyncio.get_running_loop().create_future()

        def settle(result: frames.Answer | TovukError) -> None:
            if not answered.done():
                answered.set_result(result)

        self._context.kv.submit(op, settle)
        return await answered


async def _rest(
    body: bytes, writer: kv_bulk.ValuesWriter, values: AsyncGenerator[list[frames.BulkValue | None], None]
) -> AsyncIterator[bytes]:
    """The JSON of a bulk read whose values come in several messages."""
    async with aclosing(values):
        yield body
        async for batch in values:
            yield writer.write(batch)


def _header(request: Request, name: str) -> bytes | None:
    value = request.headers.get(name)
    return None if value is None else value.encode("latin-1")


def _complete(answer: Answer | None) -> Answer:
    if answer is None:
        raise TypeError("only a get is answered with Large")
    return answer


def _inline(head: pb.PutHead, value: bytes) -> frames.Put:
    """A put whose long body held a short value, for the data channel."""
    return frames.Put(
        0,
        head.target.account_id,
        head.target.service_id,
        head.target.namespace,
        head.key,
        value,
        head.meta.encoding,
        head.meta.metadata,
        head.meta.expires_at,
        head.ttl_seconds,
        head.if_match,
        head.if_none_match,
    )


def _page_json(page: frames.Page) -> bytes:
    keys = b",".join(
        b'{"key":%b,"metadata":%b,"expiration":%b,"etag":"\\"%d\\"","sizeBytes":%d}'
        % (
            orjson.dumps(entry.key.decode()),
            entry.metadata or b"null",
            b"%d" % entry.expires_at if entry.expires_at else b"null",
            entry.version,
            entry.value_bytes,
        )
        for entry in page.keys
    )
    cursor = orjson.dumps(page.cursor or None)
    return b'{"keys":[%b],"cursor":%b,"hasMore":%b}' % (keys, cursor, b"true" if page.cursor else b"false")
