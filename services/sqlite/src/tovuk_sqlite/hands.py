"""The threads that run queries. One that works long on a job goes behind every other thread of the machine.

A priority that was lowered cannot be raised again, so such a thread ends with its job and another takes its place.
"""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Final

from tovuk_sqlite.limits import LONG_SECONDS

#: A tenth of the others' share of a processor that both want.
NICENESS: Final = 10
#: Only there has each thread a priority of its own.
_ON_LINUX: Final = sys.platform == "linux"

_Job = tuple[Callable[[], Any], "asyncio.Future[Any]"]


class _Hand:
    """One thread."""

    def __init__(self, work: Callable[["_Hand", _Job], None]) -> None:
        #: What it is to do; None ends it.
        self.jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._work = work
        #: When its job began, by time.monotonic; 0 while it waits for one.
        self.since = 0.0
        self.lowered = False
        self.thread = threading.Thread(target=self._run, name="query", daemon=True)
        self.thread.start()

    def lower(self) -> None:
        """Put it behind the others."""
        self.lowered = True
        if _ON_LINUX and self.thread.native_id is not None:
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, self.thread.native_id, NICENESS)

    def _run(self) -> None:
        while not self.lowered:
            job = self.jobs.get()
            if job is None:
                return
            self.since = time.monotonic()
            self._work(self, job)


class Hands:
    """So many threads. Must be made within a running event loop.

    A job goes to the one that was busy last: what it needs is still in its processor's caches.
    """

    def __init__(self, count: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._hands = {_Hand(self._work) for _ in range(count)}
        #: The one that was busy last at the end.
        self._idle = list(self._hands)
        self._watcher = self._loop.call_later(LONG_SECONDS, self._watch)

    def run(self, work: Callable[[], Any]) -> "asyncio.Future[Any]":
        """What `work` returns or raises, on one of the threads. Never more at a time than there are threads."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._idle.pop().jobs.put((work, future))
        return future

    async def close(self) -> None:
        """Wait for what runs."""
        self._watcher.cancel()
        while self._hands:
            hand = self._hands.pop()
            hand.jobs.put(None)
            await asyncio.to_thread(hand.thread.join)

    def _watch(self) -> None:
        self._watcher = self._loop.call_later(LONG_SECONDS, self._watch)
        now = time.monotonic()
        for hand in self._hands:
            if hand.since and now - hand.since > LONG_SECONDS and not hand.lowered:
                hand.lower()

    def _work(self, hand: _Hand, job: _Job) -> None:
        work, future = job
        try:
            result, error = work(), None
        except BaseException as raised:  # noqa: BLE001  # told to who waits
            result, error = None, raised
        # Before: one that is lowered afterwards is replaced when its next job is done.
        hand.since = 0.0
        self._loop.call_soon_threadsafe(self._done, hand, future, result, error)

    def _done(self, hand: _Hand, future: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
        if hand.lowered and hand in self._hands:
            self._hands.remove(hand)
            hand.jobs.put(None)
            hand = _Hand(self._work)
            self._hands.add(hand)
        self._idle.append(hand)
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
