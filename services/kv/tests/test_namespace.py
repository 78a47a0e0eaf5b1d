"""What a namespace guarantees, metered by the real service, over both engines."""

import asyncio
from typing import Any

import pytest

from tovuk_kit.errors import TovukError
from tovuk_kv.directory import Target
from tovuk_kv.errors import InvalidCursor, InvalidLimit, KeyInvalid, KeyTooLarge
from tovuk_kv.limits import INLINE_VALUE_BYTES_MAX, VALUE_BYTES_MAX
from tovuk_kv.namespace import NotModified, TooLarge
from tovuk_kv.store.base import Deleted, Put, Record, Stored


def code(answer: object) -> str:
    assert isinstance(answer, TovukError), answer
    return answer.code


@pytest.mark.proves("KV-012", "KV-013")
async def test_what_is_put_is_got_and_both_are_counted(house: Any) -> None:
    target = await house.create()
    stored = await house.put(target, b"user:1", b'{"name":"Ada"}', metadata='{"kind":"profile"}', ttl=3600)
    assert isinstance(stored, Stored)
    got = await house.get(target, b"user:1")
    assert (got.value, got.metadata, got.version) == (b'{"name":"Ada"}', b'{"kind":"profile"}', stored.version)
    assert got.expires_at == -(-house.clock.wall_ms() // 1000) + 3600
    assert await house.used("kv_writes", 1) == 1
    assert await house.used("kv_reads", 1) == 1
    assert await house.used("kv_storage_bytes", 6 + 14 + 18) == 38


@pytest.mark.proves("KV-042", "KV-045")
async def test_absent_keys_are_counted_and_refused_requests_are_not(house: Any) -> None:
    target = await house.create()
    assert code(await house.get(target, b"absent")) == "kv_key_not_found"
    assert await house.delete(target, b"absent") == Deleted(existed=False)
    assert code(await house.put(target, b"absent", if_match="*")) == "kv_precondition_failed"
    nowhere = Target(house.account, house.service, "NOWHERE")
    assert code(await house.get(nowhere, b"k")) == "kv_namespace_not_found"
    assert code(await house.put(nowhere, b"k")) == "kv_namespace_not_found"
    await house.namespaces.page(target, b"", 1000, "")
    for meter, units in (("kv_reads", 1), ("kv_deletes", 1), ("kv_writes", 0), ("kv_lists", 1)):
        assert await house.used(meter, units) == units


async def test_foreign_and_absent_namespaces_are_the_same(house: Any) -> None:
    target = await house.create()
    await house.put(target, b"k")
    for foreign in (target._replace(account_id="account_other"), target._replace(service_id="service_other")):
        assert code(await house.get(foreign, b"k")) == "kv_namespace_not_found"
        assert code(await house.delete(foreign, b"k")) == "kv_namespace_not_found"


@pytest.mark.proves("KV-046")
async def test_a_cap_is_reached_exactly_by_reads_writes_deletes_and_lists(house: Any) -> None:
    target = await house.create()
    await house.put(target, b"k")
    assert await house.used("kv_writes", 1) == 1
    for meter in ("kv_reads", "kv_deletes", "kv_lists"):
        await house.cap(meter, 7)
    await house.cap("kv_writes", 8)
    reads = await asyncio.gather(*[house.get(target, b"k") for _ in range(20)])
    assert sum(isinstance(answer, Record) for answer in reads) == 7
    assert {code(answer) for answer in reads if not isinstance(answer, Record)} == {"usage_cap_reached"}
    writes = await asyncio.gather(*[house.put(target, f"k{number}".encode()) for number in range(20)])
    assert sum(isinstance(answer, Stored) for answer in writes) == 7
    deletes = await asyncio.gather(*[house.delete(target, f"k{number}".encode()) for number in range(20)])
    assert sum(isinstance(answer, Deleted) for answer in deletes) == 7
    lists = await asyncio.gather(
        *[house.namespaces.page(target, b"", 10, "") for _ in range(20)], return_exceptions=True
    )
    assert sum(isinstance(answer, tuple) for answer in lists) == 7
    assert await house.used("kv_writes", 8) == 8


@pytest.mark.proves("KV-048")
async def test_the_storage_cap_holds_and_an_equal_overwrite_passes_at_it(house: Any) -> None:
    target = await house.create()
    await house.cap("kv_storage_bytes", 100)
    assert isinstance(await house.put(target, b"a", b"x" * 99), Stored)
    assert code(await house.put(target, b"b", b"")) == "usage_cap_reached"
    assert isinstance(await house.put(target, b"a", b"y" * 99), Stored)
    assert isinstance(await house.delete(target, b"a"), Deleted)
    assert isinstance(await house.put(target, b"a", b"z" * 99), Stored)
    assert (await house.get(target, b"a")).value == b"z" * 99


async def test_expired_keys_give_room_before_a_write_is_refused(house: Any) -> None:
    target = await house.create()
    await house.cap("kv_storage_bytes", 100)
    assert isinstance(await house.put(target, b"old", b"x" * 97, ttl=30), Stored)
    house.clock.advance(31_000)
    assert isinstance(await house.put(target, b"a", b"y" * 99), Stored)


async def test_conditions_and_etags(house: Any) -> None:
    target = await house.create()
    first = await house.put(target, b"k", if_none_match="*")
    etag = f'"{first.version}"'
    assert code(await house.put(target, b"k", if_none_match="*")) == "kv_precondition_failed"
    assert await house.get(target, b"k", etag) == NotModified(first.version)
    assert isinstance(await house.get(target, b"k", '"999"'), Record)
    assert code(await house.put(target, b"k", if_match='"999"')) == "kv_precondition_failed"
    second = await house.put(target, b"k", if_match=f'"999", {etag}')
    assert second.version > first.version
    assert code(await house.delete(target, b"k", etag)) == "kv_precondition_failed"
    assert await house.delete(target, b"k", "*") == Deleted(existed=True)
    assert await house.used("kv_writes", 2) == 2


async def test_a_read_behind_a_write_of_the_same_tick_sees_it(house: Any) -> None:
    target = await house.create()
    await house.put(target, b"k", b"0")
    for number in range(1, 20):
        put = house.put_soon(target, b"k", str(number).encode())
        got = house.get(target, b"k")
        assert (await got).value == str(number).encode()
        assert isinstance(await put, Stored)


async def test_writes_of_one_key_keep_their_order_also_when_some_are_set_back(house: Any) -> None:
    target = await house.create()
    puts = [house.put_soon(target, b"k", b"x" * number) for number in range(1, 50)]
    answers = await asyncio.gather(*puts)
    assert all(isinstance(answer, Stored) for answer in answers)
    assert sorted(answers, key=lambda answer: answer.version) == answers
    assert (await house.get(target, b"k")).value == b"x" * 49


async def test_a_fenced_epoch_is_replaced_and_the_write_repeated(house: Any) -> None:
    target = await house.create()
    await house.put(target, b"k")
    partition = house.store.partition(house.service, b"k")
    lease = await house.meters.acquire(partition, house.account, "kv_writes")
    house.meters.release(lease)
    await house.store.usage_stores[partition].fence(lease.epoch)
    assert isinstance(await house.put(target, b"k", b"again"), Stored)
    assert (await house.get(target, b"k")).value == b"again"


@pytest.mark.proves("KV-050", "RES-107")
async def test_keys_at_and_beyond_the_limit(house: Any) -> None:
    target = await house.create()
    assert isinstance(await house.put(target, b"k" * 512), Stored)
    assert isinstance(await house.put(target, "a/b ü".encode()), Stored)
    with pytest.raises(KeyTooLarge):
        await house.put(target, b"k" * 513)
    for key in (b"", b".", b"..", b"\xff"):
        with pytest.raises(KeyInvalid):
            await house.get(target, key)


@pytest.mark.proves("KV-052", "KV-053")
@pytest.mark.parametrize(
    ("said", "refusal"),
    [
        ({"metadata": '{"k":"' + "x" * 1016 + '"}'}, ""),
        ({"metadata": '{"k":"' + "x" * 1017 + '"}'}, "kv_metadata_too_large"),
        ({"metadata": "[1]"}, "kv_metadata_invalid"),
        ({"metadata": "{"}, "kv_metadata_invalid"),
        ({"ttl": 30}, ""),
        ({"ttl": 29}, "kv_ttl_too_short"),
        ({"ttl": -1}, "kv_ttl_too_short"),
        ({"ttl": 30, "expires_at": 2_000_000_000}, "kv_expiration_invalid"),
        ({"expires_at": 253_402_300_800}, "kv_expiration_invalid"),
        ({"expires_at": 1}, ""),
        ({"encoding": "utf-16"}, "kv_value_invalid"),
        ({"value": b"\xff"}, "kv_value_invalid"),
        ({"value": b"\xff", "encoding": "base64"}, ""),
    ],
)
async def test_what_a_put_carries_is_checked(house: Any, said: dict[str, Any], refusal: str) -> None:
    target = await house.create()
    if refusal:
        with pytest.raises(TovukError) as raised:
            await house.put(target, b"k", **said)
        assert raised.value.code == refusal
    else:
        assert isinstance(await house.put(target, b"k", **said), Stored)


async def _chunks(value: bytes, size: int = 100_000) -> Any:
    for start in range(0, len(value), size):
        yield value[start : start + size]


@pytest.mark.proves("KV-051")
async def test_large_values_stream_up_to_the_limit(house: Any) -> None:
    target = await house.create()
    value = ("ä" * (VALUE_BYTES_MAX // 2)).encode()
    put = Put(b"big", b"", "text", b"", "", "")
    stored = await house.namespaces.put_stream(target, put, len(value), 0, 0, _chunks(value, 99_999))
    assert await house.get(target, b"big") is TooLarge.TO_ANSWER_AT_ONCE
    opened = await house.namespaces.open(target, b"big", "")
    assert b"".join([chunk async for chunk in opened.chunks()]) == value
    await opened.close()
    assert await house.namespaces.open(target, b"big", f'"{stored.version}"') == NotModified(stored.version)
    assert await house.used("kv_reads", 2) == 2
    for said, length, refusal in (
        (len(value) + 1, 0, "kv_value_too_large"),
        (200_000, 199_999, "kv_value_invalid"),
        (200_000, 200_001, "kv_value_invalid"),
    ):
        with pytest.raises(TovukError) as raised:
            await house.namespaces.put_stream(
                target, Put(b"big", b"", "base64", b"", "", ""), said, 0, 0, _chunks(b"\xff" * length)
            )
        assert raised.value.code == refusal
    with pytest.raises(TovukError) as raised:
        await house.namespaces.put_stream(
            target, Put(b"big", b"", "text", b"", "", ""), 200_000, 0, 0, _chunks(b"\xff" * 200_000)
        )
    assert raised.value.code == "kv_value_invalid"


async def test_a_streamed_value_of_any_length_is_read_at_once_or_streamed(house: Any) -> None:
    target = await house.create()
    for length in (0, 1, INLINE_VALUE_BYTES_MAX, INLINE_VALUE_BYTES_MAX + 1):
        put = Put(b"k", b"", "base64", b"", "", "")
        await house.namespaces.put_stream(target, put, length, 0, 0, _chunks(b"\xff" * length))
        opened = await house.namespaces.open(target, b"k", "")
        assert b"".join([chunk async for chunk in opened.chunks()]) == b"\xff" * length
        await opened.close()


@pytest.mark.proves("KV-014", "KV-054")
async def test_pages_are_followed_by_cursors_bound_to_namespace_and_prefix(house: Any) -> None:
    target, other = await house.create(), await house.create("OTHER")
    keys = sorted(f"p{number}".encode() for number in range(45))
    await asyncio.gather(*[house.put(target, key) for key in keys], house.put(target, b"q"))
    found, cursor, pages = [], "", 0
    while True:
        entries, cursor = await house.namespaces.page(target, b"p", 15, cursor)
        found += [entry.key for entry in entries]
        pages += 1
        if not cursor:
            break
        last_cursor = cursor
    assert (found, pages) == (keys, 3)
    for wrong in (
        house.namespaces.page(other, b"p", 15, last_cursor),
        house.namespaces.page(target, b"", 15, last_cursor),
        house.namespaces.page(target, b"p", 15, last_cursor[:-2]),
        house.namespaces.page(target, b"p", 15, "nonsense!"),
    ):
        with pytest.raises(InvalidCursor):
            await wrong
    for limit in (9, 1001, 0, -1):
        with pytest.raises(InvalidLimit):
            await house.namespaces.page(target, b"", limit, "")
    for limit in (10, 1000):
        await house.namespaces.page(target, b"", limit, "")
