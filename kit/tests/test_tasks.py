import asyncio

import pytest

from tovuk_kit import tasks
from tovuk_kit.errors import StoreUnavailable


async def test_tasks_are_over_even_when_one_loses_a_cancellation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "CANCEL_AGAIN_S", 0.01)
    lost: list[str] = []

    async def loses_one() -> None:
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if lost:
                    raise
                lost.append("once")

    async def fails() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError("a fault of the test")

    running = [asyncio.create_task(loses_one()), asyncio.create_task(fails()), asyncio.create_task(asyncio.sleep(0))]
    await asyncio.sleep(0.01)
    async with asyncio.timeout(5):
        await tasks.end(running)
    assert lost == ["once"]
    assert all(task.done() for task in running)
    assert isinstance(running[1].exception(), ValueError)


async def test_nothing_to_end_is_no_error() -> None:
    await tasks.end([])


@pytest.mark.parametrize("fault", [StoreUnavailable(), ValueError("a fault of the test")])
async def test_repeated_work_outlives_its_faults(fault: Exception) -> None:
    rounds = 0
    again = asyncio.Event()

    async def work() -> None:
        nonlocal rounds
        rounds += 1
        if rounds < 3:
            raise fault
        again.set()

    task = asyncio.create_task(tasks.repeat(work, 0.001))
    async with asyncio.timeout(5):
        await again.wait()
        await tasks.end([task])
