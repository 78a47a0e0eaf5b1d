"""Background tasks: work that is repeated, and the end of what runs."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from tovuk_kit.errors import TovukError

_log = logging.getLogger(__name__)

#: Seconds until a task that was cancelled and still runs is cancelled again.
CANCEL_AGAIN_S = 0.5


async def repeat(work: Callable[[], Awaitable[None]], every_s: float) -> None:
    """Do `work` for ever, `every_s` seconds apart, whatever it raises."""
    while True:
        try:
            await work()
        except TovukError as error:
            _log.info("upkeep will be tried again: %s", error)
        except Exception:  # noqa: BLE001  # upkeep outlives every fault of one round
            _log.exception("upkeep failed")
        await asyncio.sleep(every_s)


async def end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel the tasks and wait until all are over, whatever they raised.

    One cancellation is not always enough: Python 3.11's `asyncio.wait_for`, which the NATS client uses, loses one that
    meets its result, and a task that loops would go on for ever.
    """
    running = {task for task in tasks if not task.done()}
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=CANCEL_AGAIN_S)
