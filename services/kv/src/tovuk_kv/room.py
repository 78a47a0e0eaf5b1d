"""Room for values: the account's level may grow, and what has expired is swept before that is refused."""

import asyncio
from collections.abc import Callable

from tovuk_kit.leases import Meters, PaymentRequired, UsageCapReached
from tovuk_kit.meters import MeterName
from tovuk_kv.store.base import Store

STORAGE: MeterName = "kv_storage_bytes"
#: Slices of expired keys a write that lacks room waits for at most.
SWEEP_SLICES_MAX = 200
#: How often, and how long apart, a write asks for room again that a sweep has just given back.
FREED_ROOM_ATTEMPTS, FREED_ROOM_PAUSE_S = 20, 0.1


class Room:
    """The levels of all accounts, as far as this process moves them."""

    def __init__(self, store: Store, meters: Meters, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._meters = meters
        self._now_ms = now_ms

    async def make_room(self, partition: int, account_id: str, want_bytes: int) -> None:
        """Let the account's level in a partition reach `want_bytes`, swept of expired keys before that is refused.

        Raises what Meters.make_room raises.
        """
        usage_store = self._store.usage_stores[partition]
        try:
            await self._meters.make_room(partition, account_id, STORAGE, want_bytes)
        except (UsageCapReached, PaymentRequired):
            level = await usage_store.level(account_id, STORAGE)
            grows_by = want_bytes - level.bytes
            if not await self.sweep(account_id):
                raise
        else:
            return
        # Metering hears of the bytes given back with the next reports.
        for attempt in range(1, FREED_ROOM_ATTEMPTS + 1):
            level = await usage_store.level(account_id, STORAGE)
            try:
                await self._meters.make_room(partition, account_id, STORAGE, level.bytes + grows_by)
            except (UsageCapReached, PaymentRequired):
                if attempt == FREED_ROOM_ATTEMPTS:
                    raise
                await asyncio.sleep(FREED_ROOM_PAUSE_S)
            else:
                return

    async def sweep(self, account_id: str = "") -> bool:
        """Remove expired keys and report the levels; whether the account's, or any, sank."""
        sank = False
        for _ in range(SWEEP_SLICES_MAX):
            swept = await self._store.sweep(self._now_ms())
            for partition, owner in swept.levels:
                self._meters.level_changed(partition, owner, STORAGE)
                sank = sank or account_id in ("", owner)
            if not swept.keys:
                break
        return sank
