"""The holder side of the metering protocol: units in hand, charged without a call, exact in any fault.

A process has one holder per durable store. For each account and meter it uses there it keeps a lease: `take` reserves
units from it at once, `acquire` asks metering for more. Units of transactional meters become usage rows in the effect's
own transaction (`spent`), those of buffered meters are counted here and flushed (`count`). A background task reports
absolute totals on JetStream, another keeps the heartbeat and does what metering asks: trim, bury the dead, begin anew.

Source: metering.md; the wire is metering.proto.
"""

import asyncio
import contextlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

from tovuk.metering.v1 import metering_pb2 as wire
from tovuk_kit import tasks
from tovuk_kit.clock import Clock, SystemClock
from tovuk_kit.errors import TovukError
from tovuk_kit.heartbeat import UNLIMITED_GRACE_MS, Heartbeat
from tovuk_kit.holding import Grave, Holder, Holdings, Key, Lease, LeaseService, ReportSink
from tovuk_kit.meters import MeterName
from tovuk_kit.reporting import Reporter
from tovuk_kit.usage import Level, UsageStore

#: How long an asker pauses while the heartbeat catches up.
SYNC_PAUSE_MS = 20
#: How long a request waits for units before it is told to come again.
ACQUIRE_WAIT_MS = 2_000
#: The same while metering does not answer; at start it may only be a moment behind.
AWAY_WAIT_MS = 500
#: How long a refusal, or metering's absence, is believed without asking again.
REFUSAL_BELIEVED_MS = 500
#: Refusals remembered; beyond that all are asked for anew, so that memory does not grow with accounts.
REFUSALS_MAX = 10_000
#: How long closing waits for requests in flight and the last report.
CLOSE_WAIT_MS = 3_000
CLOSE_PAUSE_MS = 20


class UsageCapReached(TovukError):
    """A cap of the account's own is reached: no unit is left with anyone."""

    code = "usage_cap_reached"


class PaymentRequired(TovukError):
    """The plan's limit is reached: no unit is left with anyone."""

    code = "payment_required"


class MeteringUnavailable(TovukError):
    """Metering is away and no lease in hand allows the charge."""

    code = "metering_unavailable"


class UsageSettling(TovukError):
    """Units may still come back from other holders."""

    code = "usage_settling"


@dataclass(slots=True)
class _Refusal:
    """A refusal worth believing for a moment: of so many units, or more."""

    error: TovukError
    units: int
    until: int


class Meters:
    """All holders of one process. Buffered meters are always charged at store 0.

    `take`, `spent`, `release`, `count` and `level_changed` never wait. Units taken must end in exactly one of `spent`,
    `release` and `count`.
    """

    def __init__(self, *, leases: LeaseService, reports: ReportSink, clock: Clock | None = None) -> None:
        clock = clock or SystemClock()
        self._service = leases
        self._now = clock.boot_ms
        self._held = Holdings()
        self._holders = self._held.holders
        self._heartbeat = Heartbeat(self._held, leases, clock)
        self._reporter = Reporter(self._held, reports, clock, self._heartbeat.fenced)
        self._refusals: dict[Key, _Refusal] = {}
        self._beating: asyncio.Task[None] | None = None
        self._reporting: asyncio.Task[None] | None = None

    async def start(self, stores: Sequence[UsageStore]) -> None:
        """Begin an epoch at every store, bury what an earlier incarnation left, and keep the heartbeat.

        Raises StoreUnavailable when a store cannot be reached. Metering may be away.
        """
        for index, store in enumerate(stores):
            holder = Holder(index, store, await store.begin_epoch())
            self._holders.append(holder)
            self._held.graves += [Grave(holder, epoch) for epoch in await store.dead_epochs()]
            await self._heartbeat.distrust_allowances(holder)
        self._beating = asyncio.create_task(self._heartbeat.run())
        self._reporting = asyncio.create_task(self._reporter.run())

    def take(self, store: int, account_id: str, meter: MeterName, units: int = 1) -> Lease | None:
        """Reserve units at once; None when the lease in hand does not have them.

        The effect is to be charged to the lease's own `epoch` and `id`.
        """
        holder = self._holders[store]
        lease = holder.leases.get((account_id, meter))
        if lease is None or lease.taken + units > lease.limit:
            return None
        now = self._now()
        if now >= lease.ends_at or not holder.may_charge(lease, now):
            return None
        lease.taken += units
        lease.in_flight += units
        lease.used_at = now
        return lease

    def spare(self, store: int, account_id: str, meter: MeterName) -> int:
        """How many units `take` would reserve at once."""
        holder = self._holders[store]
        lease = holder.leases.get((account_id, meter))
        now = self._now()
        if lease is None or now >= lease.ends_at or not holder.may_charge(lease, now):
            return 0
        return max(0, lease.limit - lease.taken)

    def spent(self, lease: Lease, units: int = 1) -> None:
        """The reserved units stand in the store's usage rows, durably."""
        lease.in_flight -= units
        lease.dirty = True

    def release(self, lease: Lease, units: int = 1) -> None:
        """The reserved units had no effect and go back."""
        lease.in_flight -= units
        lease.taken -= units

    def count(self, lease: Lease, service_id: str, resource_id: str, units: int = 1) -> None:
        """The reserved units of a buffered meter were used; they reach the store with the next flush."""
        lease.in_flight -= units
        line = (service_id, resource_id)
        lease.buffer[line] = lease.buffer.get(line, 0) + units

    def level_changed(self, store: int, account_id: str, meter: MeterName) -> None:
        """An effect moved the account's level at a store: report it."""
        self._held.level_changed(self._holders[store], account_id, meter)

    async def acquire(
        self, store: int, account_id: str, meter: MeterName, units: int = 1, *, wait: bool = True
    ) -> Lease:
        """Reserve units, waiting for metering and for other holders' units if need be; without `wait`, for nobody.

        Raises UsageCapReached or PaymentRequired when no unit is left with anyone, UsageSettling when units may come
        back, MeteringUnavailable.
        """
        key = (store, account_id, meter)
        began = self._now()
        while True:
            async with self._held.lock(key):
                lease = self.take(store, account_id, meter, units)
                if lease is not None:
                    return lease
                self._raise_refusal(key, units)
                wait_ms = await self._extend(self._holders[store], account_id, meter, units)
            waited_ms = self._now() + wait_ms - began
            if self._heartbeat.away and waited_ms >= AWAY_WAIT_MS:
                raise self._metering_away(key)
            if waited_ms >= ACQUIRE_WAIT_MS or (wait_ms and not wait):
                raise UsageSettling(retry_after_ms=1_000, meter=meter)
            if wait_ms:
                self._held.report_soon.set()
                await self._pause(wait_ms)

    async def make_room(self, store: int, account_id: str, meter: MeterName, want_bytes: int) -> None:
        """Raise the account's allowance at a store to at least `want_bytes`.

        Raises UsageCapReached or PaymentRequired when the limit leaves no such room anywhere, UsageSettling,
        MeteringUnavailable, StoreUnavailable.
        """
        holder = self._holders[store]
        began = self._now()
        deadline = began + ACQUIRE_WAIT_MS
        while True:
            async with self._held.lock((store, account_id, meter)):
                level = await holder.store.level(account_id, meter)
                if level.allowance >= want_bytes:
                    return
                wait_ms = await self._raise_allowance(holder, level, want_bytes, began)
            if self._now() + wait_ms >= deadline:
                raise UsageSettling(retry_after_ms=1_000, meter=meter)
            if wait_ms:
                await self._pause(wait_ms)

    async def fenced(self, store: int, epoch: int) -> None:
        """The store refused an effect because `epoch` is dead; a new epoch is live when this returns.

        Raises StoreUnavailable.
        """
        await self._heartbeat.fenced(self._holders[store], epoch)

    def hurry(self) -> None:
        """Metering has something to say: sync now. Called for every notice on `tovuk.metering.sync`."""
        self._held.sync_soon.set()

    def limits_changed(self, account_id: str) -> None:
        """An account's caps changed: refusals are believed no more."""
        for key in [key for key in self._refusals if key[1] == account_id]:
            del self._refusals[key]

    async def close(self) -> None:
        """Flush, close every lease and report it as final, within a bound."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_WAIT_MS / 1000):
                self._reporter.stop()
                if self._reporting is not None:
                    await self._reporting
                for holder in self._holders:
                    for lease in list(holder.leases.values()):
                        self._held.end(lease)
                while any(
                    lease.in_flight or lease.buffer or lease.dirty
                    for holder in self._holders
                    for lease in holder.ending
                ):
                    await self._reporter.report()
                    await asyncio.sleep(CLOSE_PAUSE_MS / 1000)
        await tasks.end(task for task in (self._beating, self._reporting) if task is not None)
        self._heartbeat.stop()

    @staticmethod
    async def _pause(wait_ms: int) -> None:
        # Askers that were told to wait together do not come back together.
        await asyncio.sleep(wait_ms * random.uniform(0.5, 1.0) / 1000)  # noqa: S311  # nothing secret

    def _raise_refusal(self, key: Key, units: int) -> None:
        refusal = self._refusals.get(key)
        if refusal is not None and units >= refusal.units:
            if self._now() < refusal.until:
                raise refusal.error.with_traceback(None)
            del self._refusals[key]

    async def _extend(self, holder: Holder, account_id: str, meter: MeterName, units: int) -> int:
        """Ask for units under the key's lock. Returns how long to wait before asking again; 0 to try at once."""
        key = (holder.index, account_id, meter)
        lease = holder.leases.get((account_id, meter))
        sent_at = self._now()
        epoch = holder.epoch
        successor_of = None
        if lease is not None and sent_at >= lease.ends_at:
            successor_of, lease = lease, None
        held = lease or successor_of
        if not holder.may_charge(held, sent_at):
            # Metering may have given this holder up: nothing is charged before it has answered.
            self.hurry()
            return SYNC_PAUSE_MS
        # Their confirmation may overtake the answer, which must not revive them.
        ending = {ended.id for ended in holder.ending}
        try:
            reply = await self._service.acquire(
                wire.AcquireRequest(
                    holder=holder.on_wire,
                    account_id=account_id,
                    meter=meter,
                    lease_id=lease.id if lease else 0,
                    version=lease.version if lease else 0,
                    want=units if lease is None else max(1, lease.taken + units - lease.granted),
                )
            )
        except TovukError as error:
            if held is not None and held.unlimited and sent_at >= held.ends_at:
                # Known to be without a limit: it goes on, charged to the day its lease belongs to.
                held.ends_at = self._now() + UNLIMITED_GRACE_MS
                return 0
            raise self._metering_away(key) from error
        match reply.WhichOneof("result"):
            case "granted":
                ending |= {ended.id for ended in holder.ending}
                if holder.epoch != epoch or reply.granted.lease_id in ending:
                    # The lease belongs to a dead epoch, or our last report of it is under way; a fresh one follows.
                    return SYNC_PAUSE_MS
                self._adopt(holder, account_id, meter, held, reply.granted, sent_at)
                return 0
            case "wait":
                return max(1, reply.wait.retry_after_ms)
            case _:
                refused = self._refusal(reply.refused)
                believed_ms = min(REFUSAL_BELIEVED_MS, reply.refused.resets_in_ms)
                self._believe(key, _Refusal(refused, units, sent_at + believed_ms))
                raise refused

    def _metering_away(self, key: Key) -> TovukError:
        away = MeteringUnavailable(retry_after_ms=1_000, meter=key[2])
        self._believe(key, _Refusal(away, 0, self._now() + REFUSAL_BELIEVED_MS))
        return away

    def _believe(self, key: Key, refusal: _Refusal) -> None:
        if len(self._refusals) >= REFUSALS_MAX:
            self._refusals.clear()
        self._refusals[key] = refusal

    def _adopt(
        self,
        holder: Holder,
        account_id: str,
        meter: MeterName,
        held: Lease | None,
        state: wire.LeaseState,
        sent_at: int,
    ) -> None:
        """Take over a granted state: of the lease in hand, or of its successor in the next day."""
        lease = held
        if held is not None and held.id != state.lease_id:
            self._held.end(held)
            lease = None
        if lease is None:
            lease = holder.leases[account_id, meter] = Lease(holder, account_id, meter)
        lease.used_at = sent_at
        lease.adopt(state, sent_at)
        if lease.closed:
            self._held.end(lease)

    async def _raise_allowance(self, holder: Holder, level: Level, want_bytes: int, began: int) -> int:
        try:
            reply = await self._service.allow(holder.allow_request(level, want_bytes, self._now() - began))
        except TovukError as error:
            raise MeteringUnavailable(retry_after_ms=1_000, meter=level.meter) from error
        match reply.WhichOneof("result"):
            case "allowance":
                await holder.take_allowance(level, reply.allowance)
                return 0
            case "wait":
                return max(1, reply.wait.retry_after_ms)
            case _:
                raise self._refusal(reply.refused)

    @staticmethod
    def _refusal(refused: wire.Refused) -> TovukError:
        retry_after_ms = refused.resets_in_ms or None
        meter, period, limit = refused.meter, refused.period, refused.limit
        if refused.plan_limit:
            return PaymentRequired(
                retry_after_ms=retry_after_ms, plan=refused.plan, meter=meter, period=period, limit=limit
            )
        return UsageCapReached(retry_after_ms=retry_after_ms, meter=meter, period=period, limit=limit)
