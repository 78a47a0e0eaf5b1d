"""Bulk requests, metered by the real service, over both engines."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tovuk.kv.v1.frames import BulkEntry
from tovuk_kit.errors import TovukError
from tovuk_kv.bulk import Applied
from tovuk_kv.limits import BULK_WRITE_ENTRIES_MAX
from tovuk_kv.store.base import Record


def entry(key: bytes, value: bytes, **said: Any) -> BulkEntry:
    fields: dict[str, Any] = {
        "encoding": "text",
        "metadata": b"",
        "expires_at": 0,
        "ttl_seconds": 0,
        "more": False,
    }
    return BulkEntry(key=key, value=value, **(fields | said))


async def stream(parts: list[BulkEntry]) -> AsyncIterator[list[BulkEntry]]:
    for start in range(0, len(parts), 300):
        yield parts[start : start + 300]


async def put(house: Any, target: Any, parts: list[BulkEntry]) -> Applied:
    count = sum(not part.more for part in parts)
    applied: Applied = await house.bulk.put(target, count, stream(parts))
    return applied


async def get(house: Any, target: Any, keys: list[bytes]) -> list[bytes | None]:
    values: list[bytes | None] = []
    async for value in house.bulk.get(target, keys):
        if value is None or isinstance(value, Record):
            values.append(value and value.value)
        else:
            values.append(b"".join([chunk async for chunk in value.chunks()]))
    return values


@pytest.mark.proves("KV-026", "KV-027", "KV-028", "KV-055", "RES-109")
async def test_many_keys_are_written_read_and_deleted(house: Any) -> None:
    target = await house.create()
    keys = [f"k{number}".encode() for number in range(1000)]
    assert (await put(house, target, [entry(key, key) for key in keys])).applied == 1000
    assert await get(house, target, [b"absent", keys[7], keys[3], keys[7]]) == [None, keys[7], keys[3], keys[7]]
    assert await house.bulk.delete(target, [*keys[:10], b"absent"]) == Applied(11, 10)
    assert await house.used("kv_writes", 1000) == 1000
    assert await house.used("kv_reads", 4) == 4
    assert await house.used("kv_deletes", 11) == 11


async def test_the_last_duplicate_wins_and_each_is_a_unit(house: Any) -> None:
    target = await house.create()
    await put(house, target, [entry(b"k", b"1"), entry(b"other", b""), entry(b"k", b"2"), entry(b"k", b"3")])
    assert await get(house, target, [b"k"]) == [b"3"]
    assert await house.used("kv_writes", 4) == 4


async def test_large_values_among_the_entries_arrive_in_parts(house: Any) -> None:
    target = await house.create()
    big = "ä".encode() * 100_000
    cuts = [big[start : start + 77_777] for start in range(0, len(big), 77_777)]
    parts = [entry(b"big" if number == 0 else b"", cut, more=number < len(cuts) - 1) for number, cut in enumerate(cuts)]
    assert (await put(house, target, [entry(b"a", b"1"), *parts, entry(b"z", b"2")])).applied == 3
    assert await get(house, target, [b"z", b"big", b"a"]) == [b"2", big, b"1"]


@pytest.mark.parametrize(
    ("parts", "index"),
    [
        ([entry(b"a", b""), entry(b"k" * 513, b"")], 1),
        ([entry(b"a", b""), entry(b"b", b"", ttl_seconds=29)], 1),
        ([entry(b"a", b"", encoding="hex")], 0),
        ([entry(b"a", b"\xff")], 0),
        ([entry(b"a", b"", metadata=b"[]")], 0),
        ([entry(b"a", b"x" * 100_000, more=True), entry(b"", b"\xff")], 0),
    ],
)
async def test_nothing_is_applied_when_an_entry_is_not_valid(house: Any, parts: list[BulkEntry], index: int) -> None:
    target = await house.create()
    with pytest.raises(TovukError) as raised:
        await put(house, target, parts)
    assert (raised.value.code, raised.value.params["index"]) == ("kv_bulk_invalid", str(index))
    assert await get(house, target, [b"a"]) == [None]
    assert await house.used("kv_writes", 0) == 0


@pytest.mark.proves("KV-055", "RES-109")
async def test_counts_at_and_beyond_the_limits(house: Any) -> None:
    target = await house.create()
    too_many = BULK_WRITE_ENTRIES_MAX + 1
    assert len(await get(house, target, [b"k"] * 100)) == 100
    for refused in (
        get(house, target, [b"k"] * 101),
        house.bulk.put(target, too_many, stream([])),
        house.bulk.delete(target, [b"k"] * too_many),
    ):
        with pytest.raises(TovukError) as raised:
            await refused
        assert raised.value.code == "kv_bulk_too_many"
    assert (await put(house, target, [entry(b"%d" % number, b"") for number in range(too_many - 1)])).applied == 10_000
    assert (await house.bulk.delete(target, [b"%d" % number for number in range(too_many - 1)])).existed == 10_000


async def test_a_bulk_takes_all_its_units_or_none(house: Any) -> None:
    target = await house.create()
    await house.cap("kv_writes", 100)
    with pytest.raises(TovukError) as raised:
        await put(house, target, [entry(f"k{number}".encode(), b"") for number in range(101)])
    assert raised.value.code == "usage_cap_reached"
    assert await get(house, target, [b"k0"]) == [None]
    assert (await put(house, target, [entry(f"k{number}".encode(), b"") for number in range(100)])).applied == 100
    assert await house.used("kv_writes", 100) == 100


async def test_a_bulk_without_room_applies_nothing(house: Any) -> None:
    target = await house.create()
    await house.cap("kv_storage_bytes", 1000)
    with pytest.raises(TovukError) as raised:
        await put(house, target, [entry(f"k{number:03}".encode(), b"x" * 16) for number in range(51)])
    assert raised.value.code == "usage_cap_reached"
    assert await get(house, target, [b"k000"]) == [None]
    assert (
        await put(house, target, [entry(f"k{number:03}".encode(), b"x" * 16) for number in range(50)])
    ).applied == 50


async def test_an_unknown_namespace_costs_nothing(house: Any) -> None:
    target = await house.create()
    nowhere = target._replace(ref="NOWHERE")
    for refused in (
        put(house, nowhere, [entry(b"k", b"")]),
        house.bulk.delete(nowhere, [b"k"]),
        get(house, nowhere, [b"k"]),
    ):
        with pytest.raises(TovukError) as raised:
            await refused
        assert raised.value.code == "kv_namespace_not_found"


async def test_concurrent_bulks_are_each_whole(house: Any) -> None:
    target = await house.create()
    await house.cap("kv_writes", 350)
    parts = [[entry(f"k{bulk}-{number}".encode(), b"") for number in range(100)] for bulk in range(6)]
    done = await asyncio.gather(*[put(house, target, bulk) for bulk in parts], return_exceptions=True)
    assert sum(isinstance(answer, Applied) for answer in done) == 3
    assert await house.used("kv_writes", 300) == 300


async def test_a_cancelled_read_leaves_no_unit_in_flight(house: Any) -> None:
    target = await house.create()
    await put(house, target, [entry(b"k", b"v")])
    await get(house, target, [b"k"])
    lease = await house.meters.acquire(0, house.account, "kv_reads")
    house.meters.release(lease)
    for hops in range(8):
        reading = asyncio.create_task(get(house, target, [b"k", b"absent"]))
        for _ in range(hops):
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    async with asyncio.timeout(10):
        while lease.in_flight:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
