"""Both planes over real gRPC on a Unix socket."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tovuk.kv.v1 import frames
from tovuk.kv.v1 import kv_pb2 as wire
from tovuk.kv.v1.kv_pb2_grpc import KvAdminStub, KvDataStub
from tovuk_kit.channel import Coalescer
from tovuk_kit.client import Channel
from tovuk_kit.errors import InternalError, Outcome, RemoteError

Exchange = Coalescer[frames.Operation, frames.Answer]


@pytest_asyncio.fixture
async def exchange(house: Any) -> AsyncIterator[Exchange]:
    coalescer: Exchange = Coalescer(
        house.channel,
        "/tovuk.kv.v1.KvData/Exchange",
        encode=frames.encode,
        decode=frames.decode_answers,
        is_read=lambda op: isinstance(op, frames.Get | frames.List),
    )
    yield coalescer
    await coalescer.close()


@pytest_asyncio.fixture
async def cache(house: Any) -> wire.Namespace:
    request = wire.CreateNamespaceRequest(account_id=house.account, service_id=house.service, name="CACHE")
    reply: wire.Namespace = await house.channel.unary(
        KvAdminStub(house.channel.grpc).CreateNamespace, request, retry=False
    )
    return reply


def operations(house: Any) -> tuple[Any, Any, Any, Any]:
    """Get, put, delete and list of the namespace CACHE."""
    who = (0, house.account, house.service, "CACHE")

    def put(key: bytes, value: bytes, **said: Any) -> frames.Put:
        fields = {"encoding": "text", "metadata": b"", "expires_at": 0, "ttl_seconds": 0}
        return frames.Put(*who, key, value, **(fields | {"if_match": "", "if_none_match": ""} | said))

    return (
        lambda key, etag="": frames.Get(*who, key, etag),
        put,
        lambda key, etag="": frames.Delete(*who, key, etag),
        lambda prefix=b"", limit=1000, cursor="": frames.List(*who, prefix, limit, cursor),
    )


async def test_every_operation_of_a_frame_has_its_answer(house: Any, exchange: Exchange, cache: Any) -> None:
    get, put, delete, page = operations(house)
    stored = await exchange.call(put(b"k", b"v", metadata=b'{"a":1}', ttl_seconds=60))
    assert isinstance(stored, frames.Stored) and stored.expires_at
    got = await exchange.call(get(b"k"))
    assert isinstance(got, frames.Value)
    assert (got.value, got.encoding, got.metadata, got.version) == (b"v", "text", b'{"a":1}', stored.version)
    assert isinstance(await exchange.call(get(b"k", f'"{stored.version}"')), frames.NotModified)
    listed = await exchange.call(page())
    assert isinstance(listed, frames.Page) and [entry.key for entry in listed.keys] == [b"k"] and not listed.cursor
    deleted = await exchange.call(delete(b"k"))
    assert isinstance(deleted, frames.Deleted) and deleted.existed
    for operation, code in (
        (get(b"k"), "kv_key_not_found"),
        (get(b""), "kv_key_invalid"),
        (put(b"k" * 513, b""), "kv_key_too_large"),
        (put(b"k", b"", ttl_seconds=1), "kv_ttl_too_short"),
        (put(b"k", b"", if_match="*"), "kv_precondition_failed"),
        (page(b"", 9), "invalid_limit"),
        (page(b"", 10, "x"), "invalid_cursor"),
    ):
        with pytest.raises(RemoteError) as raised:
            await exchange.call(operation)
        assert (raised.value.code, raised.value.outcome) == (code, Outcome.NOT_DONE)


async def test_a_thousand_operations_at_once_are_each_answered(house: Any, exchange: Exchange, cache: Any) -> None:
    get, put, _, _ = operations(house)
    keys = [f"k{number}".encode() for number in range(1000)]
    stored = await asyncio.gather(*[exchange.call(put(key, key)) for key in keys])
    assert {type(answer) for answer in stored} == {frames.Stored}
    got = await asyncio.gather(*[exchange.call(get(key)) for key in keys])
    assert [answer.value for answer in got if isinstance(answer, frames.Value)] == keys


async def test_large_values_go_by_chunked_calls(house: Any, exchange: Exchange, cache: Any) -> None:
    data, channel = KvDataStub(house.channel.grpc), house.channel
    target = wire.Target(account_id=house.account, service_id=house.service, namespace=cache.id)
    value = bytes(range(256)) * 4096

    async def requests() -> AsyncIterator[wire.PutLargeRequest]:
        meta = wire.Meta(encoding="base64")
        yield wire.PutLargeRequest(head=wire.PutHead(target=target, key=b"big", meta=meta, value_bytes=len(value)))
        for start in range(0, len(value), 200_000):
            yield wire.PutLargeRequest(chunk=value[start : start + 200_000])

    stored = await channel.send_stream(data.PutLarge, requests(), timeout_s=20)
    get, _, _, _ = operations(house)
    assert isinstance(await exchange.call(get(b"big")), frames.Large)
    request = wire.GetLargeRequest(target=target, key=b"big")
    replies = [reply async for reply in channel.receive_stream(data.GetLarge, request, timeout_s=20)]
    assert (replies[0].head.version, replies[0].head.value_bytes) == (stored.version, len(value))
    assert b"".join(reply.chunk for reply in replies[1:]) == value
    request.if_none_match = f'"{stored.version}"'
    replies = [reply async for reply in channel.receive_stream(data.GetLarge, request, timeout_s=20)]
    assert len(replies) == 1 and replies[0].head.not_modified
    request = wire.GetLargeRequest(target=target, key=b"absent")
    with pytest.raises(RemoteError) as raised:
        [reply async for reply in channel.receive_stream(data.GetLarge, request, timeout_s=20)]
    assert raised.value.code == "kv_key_not_found"


async def test_bulk_calls_carry_values_of_any_size(house: Any, cache: Any) -> None:
    data, channel = KvDataStub(house.channel.grpc), house.channel
    target = wire.Target(account_id=house.account, service_id=house.service, namespace="CACHE")
    big = b"x" * 700_000

    def entry(key: bytes, value: bytes, *, more: bool = False) -> frames.BulkEntry:
        return frames.BulkEntry(key, value, "text", b"{}", 0, 0, more)

    async def requests() -> AsyncIterator[wire.BulkPutRequest]:
        head = wire.BulkPutHead(target=target, entries=3)
        yield wire.BulkPutRequest(head=head, entries=frames.encode([entry(b"small", b""), entry(b"other", b"o")]))
        for entries in (
            [entry(b"big", big[:400_000], more=True)],
            [entry(b"", big[400_000:])],
        ):
            yield wire.BulkPutRequest(entries=frames.encode(entries))

    assert (await channel.send_stream(data.BulkPut, requests(), timeout_s=20)).applied == 3
    request = wire.BulkGetRequest(target=target, keys=[b"other", b"big", b"absent", b"small"])
    values: list[bytes | None] = []
    more = False
    async for reply in channel.receive_stream(data.BulkGet, request, timeout_s=20):
        for value in frames.decode_bulk_values(reply.entries):
            if more:
                values[-1] += value.value
            else:
                values.append(value and value.value)
            more = value is not None and value.more
    assert values == [b"o", big, None, b""]
    deletion = wire.BulkDeleteRequest(target=target, keys=[b"big", b"absent"])
    reply = await channel.unary(data.BulkDelete, deletion, retry=False)
    assert (reply.applied, reply.existed) == (2, 1)


async def test_the_admin_plane_creates_lists_and_deletes(house: Any, cache: Any) -> None:
    admin, channel = KvAdminStub(house.channel.grpc), house.channel
    listed = await channel.unary(admin.ListNamespaces, wire.ListNamespacesRequest(service_id=house.service), retry=True)
    assert list(listed.namespaces) == [cache]
    target = wire.Target(account_id=house.account, service_id=house.service, namespace="CACHE")
    deleted = await channel.unary(admin.DeleteNamespace, wire.DeleteNamespaceRequest(target=target), retry=False)
    assert deleted.id == cache.id
    with pytest.raises(RemoteError) as raised:
        await channel.unary(admin.DeleteNamespace, wire.DeleteNamespaceRequest(target=target), retry=False)
    assert raised.value.code == "kv_namespace_not_found"


async def test_nobody_without_the_internal_key_is_answered(house: Any) -> None:
    stranger = Channel(f"unix:{house.channel_path}", "not-the-key-of-this-house", "kv")
    request = wire.ListNamespacesRequest(service_id=house.service)
    with pytest.raises(InternalError):
        await stranger.unary(KvAdminStub(stranger.grpc).ListNamespaces, request, retry=False)
    await stranger.close()
