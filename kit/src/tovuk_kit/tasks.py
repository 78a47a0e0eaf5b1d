"""The end of background tasks."""

import asyncio
from collections.abc import Iterable

#: Seconds until a task that was cancelled and still runs is cancelled again.
CANCEL_AGAIN_S = 0.5


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
