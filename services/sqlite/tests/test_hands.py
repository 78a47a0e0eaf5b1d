"""Threads that run queries, and the place of those that take long."""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable

import pytest

from tovuk_sqlite.hands import NICENESS, Hands


def _priority() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def _once(holds: Callable[[], bool]) -> bool:
    """Whether it came to hold in a time that is long for anything."""
    end = time.monotonic() + 10
    while not holds() and time.monotonic() < end:
        time.sleep(0.001)
    return holds()


async def test_jobs_run_beside_each_other_and_say_what_became_of_them() -> None:
    hands = Hands(2)
    both = threading.Barrier(2, timeout=10)
    await asyncio.gather(hands.run(both.wait), hands.run(both.wait))
    assert await hands.run(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await hands.run(lambda: 1 // 0)
    await hands.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only there has each thread a priority of its own")
async def test_a_long_job_goes_behind_others_and_short_ones_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tovuk_sqlite.hands.LONG_SECONDS", 0.01)
    usual = _priority()
    hands = Hands(2)
    long = hands.run(lambda: _once(lambda: _priority() == NICENESS))
    assert await long
    monkeypatch.setattr("tovuk_sqlite.hands.LONG_SECONDS", 1_000.0)
    assert [await hands.run(_priority) for _ in range(10)] == [usual] * 10
    await hands.close()


async def test_as_many_jobs_run_at_once_after_long_ones_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tovuk_sqlite.hands.LONG_SECONDS", 0.001)
    hands = Hands(3)
    for _ in range(5):
        together = threading.Barrier(3, timeout=10)
        await asyncio.gather(*(hands.run(lambda: (time.sleep(0.01), together.wait())) for _ in range(3)))  # noqa: B023
    await hands.close()


async def test_what_runs_is_waited_for_at_the_end() -> None:
    hands = Hands(1)
    began, done = threading.Event(), []
    running = hands.run(lambda: (began.set(), time.sleep(0.05), done.append(1)))
    await asyncio.to_thread(began.wait)
    await hands.close()
    await running
    assert done == [1]


async def test_jobs_that_follow_one_another_run_on_one_thread() -> None:
    hands = Hands(3)
    assert len({await hands.run(threading.get_ident) for _ in range(10)}) == 1
    await hands.close()
