"""The threads that run queries, shared fairly: between accounts by the time they took, within one in order.

An account has at most half of the threads, so that whatever one of them runs, another's query finds one.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, TypeVar

from tovuk_sqlite.errors import DatabaseBusy
from tovuk_sqlite.hands import Hands
from tovuk_sqlite.limits import CALLS_WAITING_MAX

T = TypeVar("T")


class _Job:
    __slots__ = ("future", "lane", "lane_max", "work")

    def __init__(self, work: Callable[[], Any], lane: Hashable, lane_max: int, future: "asyncio.Future[Any]") -> None:
        self.work = work
        self.lane = lane
        self.lane_max = lane_max
        self.future = future


class _Account:
    __slots__ = ("jobs", "lanes", "running", "used_s")

    def __init__(self, used_s: float) -> None:
        self.jobs: deque[_Job] = deque()
        self.lanes: dict[Hashable, int] = {}
        self.running = 0
        #: Thread time, counted from that of the least busy account when this one came.
        self.used_s = used_s

    def startable(self) -> _Job | None:
        for job in self.jobs:
            if self.lanes.get(job.lane, 0) < job.lane_max:
                return job
        return None


class Crew:
    """Runs jobs on threads. A lane's jobs run `lane_max` at once."""

    def __init__(self, threads: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._hands = Hands(threads)
        self._free = threads
        self._account_max = max(1, threads // 2)
        self._accounts: dict[str, _Account] = {}

    async def run(self, account_id: str, lane: Hashable, lane_max: int, work: Callable[[], T]) -> T:
        """What `work` returns, or raises. Cancelled while it waits, it never runs. Raises DatabaseBusy."""
        account = self._accounts.get(account_id)
        if account is None:
            least = min((other.used_s for other in self._accounts.values()), default=0.0)
            account = self._accounts[account_id] = _Account(least)
        if len(account.jobs) >= CALLS_WAITING_MAX:
            raise DatabaseBusy(retry_after_ms=1_000)
        future: asyncio.Future[T] = self._loop.create_future()
        job = _Job(work, lane, lane_max, future)
        account.jobs.append(job)
        self._dispatch()
        try:
            return await future
        except asyncio.CancelledError:
            if job in account.jobs:
                account.jobs.remove(job)
            raise

    async def close(self) -> None:
        """Wait for what runs."""
        await self._hands.close()

    def _dispatch(self) -> None:
        while self._free:
            best: tuple[_Account, _Job] | None = None
            for account in self._accounts.values():
                if account.running < self._account_max and (best is None or account.used_s < best[0].used_s):
                    job = account.startable()
                    if job is not None:
                        best = account, job
            if best is None:
                return
            account, job = best
            account.jobs.remove(job)
            account.running += 1
            account.lanes[job.lane] = account.lanes.get(job.lane, 0) + 1
            self._free -= 1
            began = time.monotonic()
            self._hands.run(job.work).add_done_callback(partial(self._done, account, job, began))

    def _done(self, account: _Account, job: _Job, began: float, done: "asyncio.Future[Any]") -> None:
        account.used_s += time.monotonic() - began
        account.running -= 1
        account.lanes[job.lane] -= 1
        if not account.lanes[job.lane]:
            del account.lanes[job.lane]
        self._free += 1
        error = done.exception()
        if not job.future.done():
            if error is None:
                job.future.set_result(done.result())
            else:
                job.future.set_exception(error)
        if not account.running and not account.jobs:
            for account_id in [name for name, other in self._accounts.items() if other is account]:
                del self._accounts[account_id]
        self._dispatch()
