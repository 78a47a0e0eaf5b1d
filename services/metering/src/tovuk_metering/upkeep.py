"""Work beside requests: reports become bills, the silent are given up, notices reach control, the past is removed."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from tovuk_kit import tasks
from tovuk_kit.errors import TovukError
from tovuk_metering.clients.control import ControlClient
from tovuk_metering.clients.usage_stream import StreamUnavailable, UsageStream
from tovuk_metering.limits import REPORTS_BATCH
from tovuk_metering.meter import heartbeats, pruning, reports
from tovuk_metering.meter.turn import Turn, Turns
from tovuk_metering.store import notices

LAPSE_INTERVAL_S = 0.5
DELIVERY_INTERVAL_S = 0.5
PRUNE_INTERVAL_S = 3_600.0
#: After a fault of a round, before the next one.
PAUSE_S = 0.5
#: Notices read at once.
NOTICES_BATCH = 100

_log = logging.getLogger(__name__)


class Upkeep:
    """Four rounds that go on for ever, whatever one of them meets."""

    def __init__(self, turns: Turns, control: ControlClient, stream: UsageStream | None) -> None:
        """Without a stream no usage is reported; metering then only holds."""
        self._turns = turns
        self._control = control
        self._stream = stream
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin all rounds."""
        rounds: list[tuple[Callable[[], Awaitable[None]], float]] = [
            (self.give_up_silent, LAPSE_INTERVAL_S),
            (self.deliver_notices, DELIVERY_INTERVAL_S),
            (self.prune, PRUNE_INTERVAL_S),
        ]
        if self._stream is not None:
            rounds.append((self.apply_reports, 0.0))
        self._tasks = [asyncio.create_task(_for_ever(work, interval_s)) for work, interval_s in rounds]

    async def close(self) -> None:
        """Stop all rounds; what they have not done the next process does."""
        await tasks.end(self._tasks)
        if self._stream is not None:
            await self._stream.close()

    async def give_up_silent(self) -> None:
        """Give up holders that have stopped charging."""
        gone = await self._turns.read(heartbeats.lapsed)
        if gone:
            _log.warning("given up: %s", gone)
            await self._turns.write(lambda turn: heartbeats.give_up(turn, gone))

    async def apply_reports(self) -> None:
        """Bill the next reports, then acknowledge them."""
        assert self._stream is not None
        delivery = await self._stream.fetch(REPORTS_BATCH)
        if delivery.reports:
            await self._turns.write(lambda turn: reports.apply(turn, delivery.reports))
        await delivery.ack()

    async def deliver_notices(self) -> None:
        """Tell control what is not told yet, oldest first."""
        for notice in await self._turns.read(lambda turn: notices.undelivered(turn.tx, NOTICES_BATCH)):
            await self._control.record(notice)
            await self._turns.write(partial(_mark_delivered, notice_id=notice.notice_id))

    async def prune(self) -> None:
        """Remove what nothing needs any more."""
        await self._turns.write(pruning.prune)


def _mark_delivered(turn: Turn, notice_id: str) -> None:
    notices.mark_delivered(turn.tx, notice_id)


async def _for_ever(work: Callable[[], Awaitable[None]], interval_s: float) -> None:
    while True:
        try:
            await work()
        except (TovukError, StreamUnavailable) as error:
            _log.info("%s has to wait: %s", work.__name__, error)
            await asyncio.sleep(PAUSE_S)
        except Exception:  # noqa: BLE001  # a round outlives every fault
            _log.exception("%s failed", work.__name__)
            await asyncio.sleep(PAUSE_S)
        await asyncio.sleep(interval_s)
