"""Work beside requests: plans to metering, purge of deleted services, old tokens."""

import asyncio
import logging
from contextlib import suppress
from functools import partial
from typing import Final

from tovuk_control.limits import TOKEN_REMAINS_MS
from tovuk_control.project import activity
from tovuk_control.project.account import PlanSink
from tovuk_control.project.changes import Publish, services_changed
from tovuk_control.project.registry import OWNERS, SHARDED_OWNER
from tovuk_control.store import accounts as accounts_table
from tovuk_control.store import resources as resources_table
from tovuk_control.store import services as services_table
from tovuk_control.store import shards as shards_table
from tovuk_control.store import tokens as tokens_table
from tovuk_kit import tasks
from tovuk_kit.clock import Clock
from tovuk_kit.database import Database, Tx
from tovuk_kit.errors import TovukError

#: Seconds between sweeps, and between looks into the outbox when nothing was posted here.
SWEEP_S: Final = 60.0
OUTBOX_S: Final = 30.0
#: Seconds before a failed delivery is tried again, doubled up to the last, for ever.
RETRY_FIRST_S: Final = 0.2
RETRY_LAST_S: Final = 10.0

_BATCH: Final = 100

_logger = logging.getLogger(__name__)


class Upkeep:
    """Every instance may run it: each step is idempotent and safe beside the same step elsewhere."""

    def __init__(self, database: Database, clock: Clock, metering: PlanSink, publish: Publish) -> None:
        self._database = database
        self._clock = clock
        self._metering = metering
        self._publish = publish
        self._posted = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def posted(self) -> None:
        """A plan was put into the outbox: deliver it now."""
        self._posted.set()

    def start(self) -> None:
        """Begin to work in the background."""
        self._tasks = [asyncio.create_task(self._deliver_for_ever()), asyncio.create_task(self._sweep_for_ever())]

    async def close(self) -> None:
        """Stop between two steps or in one; what was not finished is found again at the next start."""
        await tasks.end(self._tasks)

    async def deliver_plans(self) -> bool:
        """Tell metering every plan in the outbox; False when some are left for another try."""
        delivered_all, after = True, ""
        while True:
            page = partial(accounts_table.posted_plans, after_account_id=after, limit=_BATCH)
            waiting = await self._database.read(page)
            for news in waiting:
                try:
                    await self._metering.set_plan(news.account_id, news.plan, news.revision)
                except TovukError as error:
                    _logger.warning("metering was not told the plan of %s: %s", news.account_id, error)
                    if error.entry.family.retryable:
                        return False
                    # Metering is there and refuses this one; the others must not wait for it.
                    delivered_all = False
                else:
                    await self._database.write(partial(accounts_table.drop_posted_plan, news=news))
            if len(waiting) < _BATCH:
                return delivered_all
            after = waiting[-1].account_id

    async def sweep(self) -> None:
        """Purge services deleted 72 hours ago, leaving tombstones, and forget tokens that ended as long ago."""
        now_ms = self._clock.wall_ms()
        while True:
            due = await self._database.read(lambda tx: services_table.due(tx, now_ms, _BATCH))
            for service_id, account_id, name in due:
                await self._purge(service_id, account_id, name, now_ms)
            if len(due) < _BATCH:
                break
        await self._database.write(lambda tx: tokens_table.delete_ended(tx, now_ms - TOKEN_REMAINS_MS))

    async def _purge(self, service_id: str, account_id: str, name: str, now_ms: int) -> None:
        def work(tx: Tx) -> bool:
            if not services_table.purge(tx, service_id, now_ms):
                return False
            shards = shards_table.unplace_of_service(tx, service_id)
            resources_table.delete_of_service(tx, service_id)
            owners = (*OWNERS, *(f"{SHARDED_OWNER}{shard}" for shard in shards))
            resources_table.bury(tx, service_id, owners, now_ms)
            tokens_table.delete_of_service(tx, service_id)
            activity.record(tx, account_id, "service_purged", now_ms, service_id=service_id, name=name)
            return True

        if await self._database.write(work):
            services_changed(self._publish, account_id)

    async def _deliver_for_ever(self) -> None:
        pause_s = RETRY_FIRST_S
        while True:
            self._posted.clear()
            try:
                delivered_all = await self.deliver_plans()
            except Exception:
                _logger.exception("the outbox could not be read")
                delivered_all = False
            pause_s = RETRY_FIRST_S if delivered_all else min(pause_s * 2, RETRY_LAST_S)
            with suppress(TimeoutError):
                # Python 3.11's wait_for loses a cancellation that meets the event.
                async with asyncio.timeout(OUTBOX_S if delivered_all else pause_s):
                    await self._posted.wait()

    async def _sweep_for_ever(self) -> None:
        while True:
            try:
                await self.sweep()
            except Exception:
                _logger.exception("the sweep failed")
            await asyncio.sleep(SWEEP_S)
