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

    def __init__(self, jobs: "SimpleQueue[_Job | None]", work: Callable[["_Hand", _Job], None]) -> None:
        self._jobs = jobs
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
            job = self._jobs.get()
            if job is None:
                # It is meant for all.
                self._jobs.put(None)
                return
            self.since = time.monotonic()
            self._work(self, job)


class Hands:
    """So many threads. Must be made within a running event loop."""

    def __init__(self, count: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._hands = {_Hand(self._jobs, self._work) for _ in range(count)}
        self._watcher = self._loop.call_later(LONG_SECONDS, self._watch)

    def run(self, work: Callable[[], Any]) -> "asyncio.Future[Any]":
        """What `work` returns or raises, on one of the threads."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._jobs.put((work, future))
        return future

    async def close(self) -> None:
        """Wait for what runs."""
        self._watcher.cancel()
        self._jobs.put(None)
        for hand in list(self._hands):
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
            self._hands.add(_Hand(self._jobs, self._work))
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
