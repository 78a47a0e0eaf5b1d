"""What a holder talks to, scripted: metering and the pipe to it answer as a test says, in virtual time."""

import asyncio
import functools
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, cast

from model.explore import end_tasks
from model.world import LoopClock, ModelStore, Network, VirtualLoop

from tovuk.metering.v1 import metering_pb2 as wire
from tovuk_kit.errors import Outcome, ServiceUnavailable, StoreUnavailable, TovukError

DAY_MS = 86_400_000
ACCOUNT = "account"
DAY = "2026-11-21"


def in_virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test in a loop whose time jumps to the next timer."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        loop = VirtualLoop()
        try:
            loop.run_until_complete(test(*args, **kwargs))
            loop.run_until_complete(end_tasks())
        finally:
            loop.close()

    return run


def virtual_clock() -> LoopClock:
    """The clock of the running test."""
    return LoopClock(cast(VirtualLoop, asyncio.get_running_loop()), wall_ms=0)


def sleep_through(seconds: float) -> None:
    """Let time pass while nothing of this process runs, as in a freeze."""
    cast(VirtualLoop, asyncio.get_running_loop()).jump(seconds)


def granted(lease_id: int, units: int, *, version: int = 1, ends_in_ms: int = DAY_MS) -> wire.AcquireReply:
    """So many units in all."""
    return wire.AcquireReply(
        granted=wire.LeaseState(lease_id=lease_id, version=version, granted=units, ends_in_ms=ends_in_ms, day=DAY)
    )


def unlimited(lease_id: int, *, version: int = 1, ends_in_ms: int = DAY_MS) -> wire.AcquireReply:
    """No limit binds."""
    return wire.AcquireReply(
        granted=wire.LeaseState(lease_id=lease_id, version=version, unlimited=True, ends_in_ms=ends_in_ms, day=DAY)
    )


def waiting(retry_after_ms: int = 50) -> wire.AcquireReply:
    """Units may come back."""
    return wire.AcquireReply(wait=wire.Wait(retry_after_ms=retry_after_ms))


def refused(*, plan: str = "", resets_in_ms: int = DAY_MS) -> wire.AcquireReply:
    """No unit is left with anyone."""
    return wire.AcquireReply(refused=refusal(plan=plan, resets_in_ms=resets_in_ms))


def refusal(*, plan: str = "", resets_in_ms: int = DAY_MS) -> wire.Refused:
    """By the plan that is named, else by an own cap."""
    return wire.Refused(
        plan_limit=bool(plan), plan=plan, meter="kv_writes", period="day", limit=10, resets_in_ms=resets_in_ms
    )


class ScriptedMetering:
    """Metering's `Leases` and the pipe to it. It confirms what was published, and keeps every word it heard."""

    def __init__(self) -> None:
        self.away = False
        #: Answers to Acquire and to Allow, in order; without one metering fails the call.
        self.acquires: deque[wire.AcquireReply | TovukError] = deque()
        self.allows: deque[wire.AllowReply | TovukError] = deque()
        #: What the next heartbeat is told.
        self.orders = wire.SyncReply()
        self.trims_answered = True
        self.confirming = True
        #: Whether the pipe takes reports.
        self.taking = True
        self.acquired: list[wire.AcquireRequest] = []
        self.trimmed: list[wire.TrimRequest] = []
        self.allowed: list[wire.AllowRequest] = []
        self.levels_trimmed: list[wire.TrimLevelRequest] = []
        self.synced: list[wire.SyncRequest] = []
        self.reports: list[wire.UsageReport] = []

    async def sync(self, request: wire.SyncRequest) -> wire.SyncReply:
        await self._hop()
        self.synced.append(request)
        reply, self.orders = self.orders, wire.SyncReply()
        reply.valid_ms = 3_000
        if self.confirming:
            leases, levels = self.totals(), self.level_totals()
            reply.confirmed.extend(m for m in request.unconfirmed if self._has(leases, m))
            reply.confirmed_levels.extend(m for m in request.unconfirmed_levels if levels[m.meter].seq >= m.seq)
        await asyncio.sleep(0)
        return reply

    async def acquire(self, request: wire.AcquireRequest) -> wire.AcquireReply:
        await self._hop()
        self.acquired.append(request)
        reply: wire.AcquireReply = self._answer(self.acquires)
        return reply

    async def trim(self, request: wire.TrimRequest) -> wire.LeaseState:
        await self._hop()
        self.trimmed.append(request)
        if not self.trims_answered:
            raise ServiceUnavailable(service="metering")
        return wire.LeaseState(
            lease_id=request.lease_id, version=request.version + 1, granted=request.keep, ends_in_ms=DAY_MS, day=DAY
        )

    async def allow(self, request: wire.AllowRequest) -> wire.AllowReply:
        await self._hop()
        self.allowed.append(request)
        reply: wire.AllowReply = self._answer(self.allows)
        return reply

    async def trim_level(self, request: wire.TrimLevelRequest) -> wire.TrimLevelReply:
        await self._hop()
        self.levels_trimmed.append(request)
        return wire.TrimLevelReply()

    async def publish(self, report: wire.UsageReport) -> bool:
        await asyncio.sleep(0)
        if self.taking:
            self.reports.append(report)
        return self.taking

    def totals(self) -> dict[int, wire.LeaseTotals]:
        """The newest report of each lease."""
        return {totals.lease_id: totals for report in self.reports for totals in report.leases}

    def level_totals(self) -> dict[str, wire.LevelTotals]:
        """The newest report of each meter's level."""
        return {totals.meter: totals for report in self.reports for totals in report.levels}

    async def _hop(self) -> None:
        await asyncio.sleep(0.001)
        if self.away:
            raise ServiceUnavailable(service="metering")

    @staticmethod
    def _answer(script: "deque[Any]") -> Any:
        if not script:
            raise ServiceUnavailable(service="metering")
        answer = script.popleft()
        if isinstance(answer, TovukError):
            raise answer
        return answer

    @staticmethod
    def _has(totals: dict[int, wire.LeaseTotals], mark: wire.LeaseMark) -> bool:
        known = totals.get(mark.lease_id)
        return known is not None and known.seq >= mark.seq and known.final >= mark.final


class _Line(Network):
    """The way to a store: at once, or cut."""

    def __init__(self) -> None:
        self.error: TovukError | None = None

    async def hop(self) -> None:
        await asyncio.sleep(0.001)
        if self.error is not None:
            raise self.error


class ScriptedStore(ModelStore):
    """A store that can be cut off."""

    def __init__(self, name: str = "kv/store/0", *, exclusive: bool = False) -> None:
        self._line = _Line()
        super().__init__(name, exclusive=exclusive, network=self._line)

    def cut(self, outcome: Outcome = Outcome.NOT_DONE) -> None:
        """Fail every call from now on."""
        self._line.error = StoreUnavailable(outcome=outcome)

    def mend(self) -> None:
        """Serve again."""
        self._line.error = None
