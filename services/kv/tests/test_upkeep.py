"""The work beside requests, running as it does in the service."""

import asyncio
from typing import Any


async def test_upkeep_sweeps_and_finishes_deletions(house: Any) -> None:
    target = await house.create()
    other = await house.create("OTHER")
    await house.put(target, b"k", b"value", ttl=30)
    await house.put(other, b"k", b"value")
    await house.store.drop(await house.store.find(house.service, "OTHER"))
    house.clock.advance(31_000)
    house.upkeep.start()
    try:
        async with asyncio.timeout(20):
            while await house.store.dropped() or (await house.store.sweep(0)).keys or await stored(house):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    finally:
        await house.upkeep.close()


async def stored(house: Any) -> int:
    levels = [await usage.level(house.account, "kv_storage_bytes") for usage in house.store.usage_stores]
    return sum(level.bytes for level in levels)
