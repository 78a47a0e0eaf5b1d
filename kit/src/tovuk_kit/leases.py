"""The holder side of the metering protocol: units in hand, charged without a call, exact in any fault.

A process has one holder per durable store. For each account and meter it uses there it keeps a lease: `take` reserves
units from it at once, `acquire` asks metering for more. Units of transactional meters become usage rows in the effect's
own transaction (`spent`), those of buffered meters are counted here and flushed (`count`). A background task reports
absolute totals on JetStream, another keeps the heartbeat and does what metering asks: trim, bury the dead, begin anew.

Source: metering.md; the wire is metering.proto.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tovuk.metering.v1 import metering_pb2 as wire
from tovuk_kit.clock import Clock, SystemClock
from tovuk_kit.errors import Outcome, TovukError
from tovuk_kit.meters import MeterName
from tovuk_kit.usage import UNLIMITED, Fenced, Level, UsageRow, UsageStore

_log = logging.getLogger(__name__)

#: How often a process shows that it lives.
SYNC_INTERVAL_MS = 1_000
#: How often buffered units are flushed and totals reported.
REPORT_INTERVAL_MS = 100
#: How long a published total may stay unconfirmed before it is published again.
REPUBLISH_AFTER_MS = 1_000
#: A limited lease without a charge for so long gives its unused units back.
IDLE_TRIM_MS = 1_000
#: A lease without a charge for so long is closed.
IDLE_CLOSE_MS = 60_000
#: How long an asker pauses while the heartbeat catches up.
SYNC_PAUSE_MS = 20
#: How long a request waits for units before it is told to come again.
ACQUIRE_WAIT_MS = 2_000
#: How long a refusal, or metering's absence, is believed without asking again.
REFUSAL_BELIEVED_MS = 500
#: How long an unlimited lease lives on at a time while metering is away.
UNLIMITED_GRACE_MS = 5_000
#: Locks the accounts and meters of a process share, so that memory does not grow with them.
LOCKS = 1_024
#: Leases of one report message.
REPORT_LEASES_MAX = 500
#: How long closing waits for requests in flight and the last report.
CLOSE_WAIT_MS = 3_000


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


class LeaseService(Protocol):
    """Metering's `Leases`, as a holder calls it. Every method raises TovukError when no answer came."""

    async def sync(self, request: wire.SyncRequest) -> wire.SyncReply: ...

    async def acquire(self, request: wire.AcquireRequest) -> wire.AcquireReply: ...

    async def trim(self, request: wire.TrimRequest) -> wire.LeaseState: ...

    async def allow(self, request: wire.AllowRequest) -> wire.AllowReply: ...

    async def trim_level(self, request: wire.TrimLevelRequest) -> wire.TrimLevelReply: ...


class ReportSink(Protocol):
    """The pipe to metering. It may lose everything: only metering's confirmation lets a store forget."""

    async def publish(self, report: wire.UsageReport) -> bool:
        """Whether the pipe has taken the report."""
        ...


class Lease:
    """Units of one account and meter in the hands of one holder."""

    __slots__ = (
        "account_id",
        "buffer",
        "closed",
        "confirmed",
        "day",
        "dirty",
        "ends_at",
        "granted",
        "holder",
        "id",
        "in_flight",
        "limit",
        "meter",
        "published",
        "published_at",
        "taken",
        "unlimited",
        "used_at",
        "version",
    )

    def __init__(self, holder: "Holder", account_id: str, meter: MeterName) -> None:
        self.holder = holder
        self.account_id = account_id
        self.meter = meter
        self.id = 0
        self.version = 0
        self.day = ""
        self.granted = 0
        self.unlimited = False
        #: Units that may be taken in all; below `granted` while a trim is under way.
        self.limit = 0
        #: Units reserved or used since the lease began.
        self.taken = 0
        #: Reserved units whose effect has not ended.
        self.in_flight = 0
        #: Used units by (service, resource) that are not in the store yet.
        self.buffer: dict[tuple[str, str], int] = {}
        #: Boot milliseconds at which the lease's windows may end.
        self.ends_at = 0
        self.used_at = 0
        #: The store's rows changed since they were last published.
        self.dirty = False
        self.published = 0
        self.published_at = 0
        self.confirmed = 0
        #: No unit may be taken any more; it ends when nothing is in flight and its total is confirmed.
        self.closed = False

    def adopt(self, state: wire.LeaseState, sent_at: int) -> None:
        """Take over what metering said of the lease."""
        self.id = state.lease_id
        self.version = state.version
        self.day = state.day
        self.granted = state.granted
        self.unlimited = state.unlimited
        self.limit = UNLIMITED if state.unlimited else state.granted
        self.ends_at = sent_at + state.ends_in_ms
        if state.closed:
            self.close()

    def close(self) -> None:
        """Let nothing more be taken."""
        self.closed = True
        self.limit = 0


@dataclass(slots=True, eq=False)
class Holder:
    """This incarnation at one store."""

    index: int
    store: UsageStore
    epoch: int
    #: Boot milliseconds until which limited leases may be charged; metering gives the holder up later than that.
    valid_until: int = 0
    leases: dict[tuple[str, str], Lease] = field(default_factory=dict)
    #: Leases that are ending: their last totals are not confirmed yet.
    ending: list[Lease] = field(default_factory=list)
    renewing: asyncio.Task[None] | None = None

    @property
    def wire(self) -> wire.Holder:
        """The holder's name on the wire."""
        return wire.Holder(store=self.store.name, epoch=self.epoch)


@dataclass(slots=True, eq=False)
class _Grave:
    """A dead epoch at one of our stores: fenced, its totals published until metering has confirmed all."""

    holder: Holder
    epoch: int
    rows: dict[int, list[UsageRow]] | None = None
    unconfirmed: set[int] = field(default_factory=set)
    buried: bool = False


@dataclass(slots=True, eq=False)
class _LevelMark:
    """A level whose newest state metering has not confirmed."""

    holder: Holder
    account_id: str
    meter: str
    seq: int = -1
    dirty: bool = True
    published_at: int = 0


@dataclass(slots=True)
class _Refusal:
    """A refusal worth believing for a moment: of so many units, or more."""

    error: TovukError
    units: int
    until: int


Key = tuple[int, str, str]


class Meters:
    """All holders of one process. Buffered meters are always charged at store 0.

    `take`, `spent`, `release`, `count` and `level_changed` never wait. Units taken must end in exactly one of `spent`,
    `release` and `count`.
    """

    def __init__(self, *, leases: LeaseService, reports: ReportSink, clock: Clock | None = None) -> None:
        self._service = leases
        self._sink = reports
        clock = clock or SystemClock()
        self._now = clock.boot_ms
        self._holders: list[Holder] = []
        self._refusals: dict[Key, _Refusal] = {}
        self._locks = [asyncio.Lock() for _ in range(LOCKS)]
        self._levels: dict[Key, _LevelMark] = {}
        self._graves: list[_Grave] = []
        self._unlimited: set[Key] = set()
        self._hurried = asyncio.Event()
        self._report_soon = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loops: list[asyncio.Task[None]] = []
        #: The last heartbeat was not answered.
        self._away = False

    async def start(self, stores: Sequence[UsageStore]) -> None:
        """Begin an epoch at every store, bury what an earlier incarnation left, and keep the heartbeat.

        Raises StoreUnavailable when a store cannot be reached. Metering may be away.
        """
        for index, store in enumerate(stores):
            holder = Holder(index, store, await store.begin_epoch())
            self._holders.append(holder)
            for epoch in await store.dead_epochs():
                self._graves.append(_Grave(holder, epoch))
            for account_id, meter in await store.known_unlimited():
                self._unlimited.add((index, account_id, meter))
            await self._distrust_allowances(holder)
        self._loops = [asyncio.create_task(self._heartbeat()), asyncio.create_task(self._reporter())]

    def epoch(self, store: int) -> int:
        """The live epoch to charge effects at a store to."""
        return self._holders[store].epoch

    # Hot path: no await, no allocation beyond what the caller needs.

    def take(self, store: int, account_id: str, meter: MeterName, units: int = 1) -> Lease | None:
        """Reserve units at once; None when the lease in hand does not have them."""
        holder = self._holders[store]
        lease = holder.leases.get((account_id, meter))
        if lease is None or lease.taken + units > lease.limit:
            return None
        now = self._now()
        if now >= lease.ends_at or (now >= holder.valid_until and not lease.unlimited):
            return None
        lease.taken += units
        lease.in_flight += units
        lease.used_at = now
        return lease

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
        key = (store, account_id, meter)
        mark = self._levels.get(key)
        if mark is None:
            self._levels[key] = _LevelMark(self._holders[store], account_id, meter)
        else:
            mark.dirty = True

    # Asking metering.

    async def acquire(self, store: int, account_id: str, meter: MeterName, units: int = 1) -> Lease:
        """Reserve units, waiting for metering and for other holders' units if need be.

        Raises UsageCapReached or PaymentRequired when no unit is left with anyone, UsageSettling when units may come
        back, MeteringUnavailable.
        """
        key = (store, account_id, meter)
        deadline = self._now() + ACQUIRE_WAIT_MS
        while True:
            async with self._lock(key):
                lease = self.take(store, account_id, meter, units)
                if lease is not None:
                    return lease
                self._raise_refusal(key, units)
                wait_ms = await self._extend(self._holders[store], account_id, meter, units)
            if self._now() + wait_ms >= deadline:
                raise UsageSettling(retry_after_ms=1_000, meter=meter)
            if wait_ms:
                self._report_soon.set()
                await self._pause(wait_ms)

    async def make_room(self, store: int, account_id: str, meter: MeterName, want_bytes: int) -> None:
        """Raise the account's allowance at a store to at least `want_bytes`.

        Raises UsageCapReached or PaymentRequired when the limit leaves no such room anywhere, UsageSettling,
        MeteringUnavailable, StoreUnavailable.
        """
        holder = self._holders[store]
        deadline = self._now() + ACQUIRE_WAIT_MS
        while True:
            async with self._lock((store, account_id, meter)):
                level = await holder.store.level(account_id, meter)
                if level.allowance >= want_bytes:
                    return
                wait_ms = await self._raise_allowance(holder, level, want_bytes)
            if self._now() + wait_ms >= deadline:
                raise UsageSettling(retry_after_ms=1_000, meter=meter)
            if wait_ms:
                await self._pause(wait_ms)

    async def fenced(self, store: int, epoch: int) -> None:
        """The store refused an effect because `epoch` is dead; a new epoch is live when this returns."""
        holder = self._holders[store]
        if holder.epoch == epoch:
            if holder.renewing is None:
                holder.renewing = self._spawn(self._renew(holder))
            await asyncio.shield(holder.renewing)

    def hurry(self) -> None:
        """Metering has something to say: sync now. Called for every notice on `tovuk.metering.sync`."""
        self._hurried.set()

    def limits_changed(self, account_id: str) -> None:
        """An account's caps changed: refusals are believed no more."""
        for key in [key for key in self._refusals if key[1] == account_id]:
            del self._refusals[key]

    async def close(self) -> None:
        """Flush, close every lease and report it as final, within a bound."""
        for task in [*self._loops, *self._tasks]:
            task.cancel()
        await asyncio.gather(*self._loops, *self._tasks, return_exceptions=True)
        for holder in self._holders:
            for lease in list(holder.leases.values()):
                self._end(lease)
        deadline = self._now() + CLOSE_WAIT_MS
        while self._now() < deadline and any(
            lease.in_flight or lease.buffer or lease.dirty for holder in self._holders for lease in holder.ending
        ):
            with contextlib.suppress(TovukError):
                await self._report()
            await asyncio.sleep(0.02)

    @staticmethod
    async def _pause(wait_ms: int) -> None:
        # Askers that were told to wait together do not come back together.
        await asyncio.sleep(wait_ms * random.uniform(0.5, 1.0) / 1000)  # noqa: S311  # nothing secret

    def _lock(self, key: Key) -> asyncio.Lock:
        return self._locks[hash(key) % LOCKS]

    def _raise_refusal(self, key: Key, units: int) -> None:
        refusal = self._refusals.get(key)
        if refusal is not None and units >= refusal.units:
            if self._now() < refusal.until:
                raise refusal.error
            del self._refusals[key]

    async def _extend(self, holder: Holder, account_id: str, meter: MeterName, units: int) -> int:
        """Ask for units under the key's lock. Returns how long to wait before asking again; 0 to try at once."""
        key = (holder.index, account_id, meter)
        lease = holder.leases.get((account_id, meter))
        sent_at = self._now()
        successor_of = None
        if lease is not None and sent_at >= lease.ends_at:
            successor_of, lease = lease, None
        held = lease or successor_of
        if sent_at >= holder.valid_until and not (held is not None and held.unlimited):
            # Metering may have given this holder up: nothing is charged before it has answered.
            if self._away:
                raise self._metering_away(key)
            self.hurry()
            return SYNC_PAUSE_MS
        try:
            reply = await self._service.acquire(
                wire.AcquireRequest(
                    holder=holder.wire,
                    account_id=account_id,
                    meter=meter,
                    lease_id=lease.id if lease else 0,
                    version=lease.version if lease else 0,
                    want=units if lease is None else max(1, lease.taken + units - lease.granted),
                )
            )
        except TovukError as error:
            if held is not None and held.unlimited and not held.closed:
                # Known to be without a limit: it goes on, charged to the day its lease belongs to.
                held.ends_at = self._now() + UNLIMITED_GRACE_MS
                return 0
            raise self._metering_away(key) from error
        match reply.WhichOneof("result"):
            case "granted":
                if any(ending.id == reply.granted.lease_id for ending in holder.ending):
                    # Our last report of that lease is under way; a fresh one follows it.
                    return SYNC_PAUSE_MS
                await self._adopt(holder, account_id, meter, held, reply.granted, sent_at)
                return 0
            case "wait":
                return max(1, reply.wait.retry_after_ms)
            case _:
                refused = self._refusal(reply.refused)
                self._refusals[key] = _Refusal(refused, units, self._now() + REFUSAL_BELIEVED_MS)
                raise refused

    def _metering_away(self, key: Key) -> TovukError:
        away = MeteringUnavailable(retry_after_ms=1_000, meter=key[2])
        self._refusals[key] = _Refusal(away, 0, self._now() + REFUSAL_BELIEVED_MS)
        return away

    async def _adopt(
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
            self._end(held)
            lease = None
        if lease is None:
            lease = holder.leases[account_id, meter] = Lease(holder, account_id, meter)
        lease.used_at = sent_at
        lease.adopt(state, sent_at)
        if lease.closed:
            self._end(lease)
        key = (holder.index, account_id, meter)
        if lease.unlimited != (key in self._unlimited):
            (self._unlimited.add if lease.unlimited else self._unlimited.discard)(key)
            await holder.store.remember_unlimited(account_id, meter, lease.unlimited)

    async def _raise_allowance(self, holder: Holder, level: Level, want_bytes: int) -> int:
        try:
            reply = await self._service.allow(
                wire.AllowRequest(
                    level=wire.LevelRef(store=holder.store.name, account_id=level.account_id, meter=level.meter),
                    version=level.version,
                    bytes=level.bytes,
                    allowance=min(level.allowance, UNLIMITED),
                    seq=level.seq,
                    want_bytes=want_bytes,
                )
            )
        except TovukError as error:
            raise MeteringUnavailable(retry_after_ms=1_000, meter=level.meter) from error
        match reply.WhichOneof("result"):
            case "allowance":
                granted = UNLIMITED if reply.allowance.unlimited else reply.allowance.bytes
                await holder.store.set_allowance(level.account_id, level.meter, reply.allowance.version, granted)
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

    # Ending leases and epochs.

    def _end(self, lease: Lease) -> None:
        """Take a lease out of use; the reporter sees it to its end."""
        lease.close()
        holder = lease.holder
        if holder.leases.get((lease.account_id, lease.meter)) is lease:
            del holder.leases[lease.account_id, lease.meter]
        if lease not in holder.ending:
            lease.dirty = True
            holder.ending.append(lease)

    async def _renew(self, holder: Holder) -> None:
        """Begin a new epoch after the old one was given up, and bury the old one."""
        old = holder.epoch
        try:
            await holder.store.fence(old)
            # What was buffered under the dead epoch is burnt with it: it may have been given up long ago.
            holder.leases.clear()
            holder.ending.clear()
            holder.valid_until = 0
            holder.epoch = await holder.store.begin_epoch()
            self._graves.append(_Grave(holder, old))
            await self._distrust_allowances(holder)
        finally:
            holder.renewing = None
        self.hurry()

    async def _distrust_allowances(self, holder: Holder) -> None:
        """Give up the allowances at a store: a limit may have been set while nobody was there to hear of it."""
        for level in await holder.store.levels():
            await holder.store.trim_allowance(level.account_id, level.meter)
            key = (holder.index, level.account_id, level.meter)
            self._levels[key] = _LevelMark(holder, level.account_id, level.meter)

    # Heartbeat.

    async def _heartbeat(self) -> None:
        while True:
            self._hurried.clear()
            try:
                await self._sync()
                self._away = False
            except TovukError as error:
                self._away = True
                _log.info("metering does not answer: %s", error)
            except Exception:  # noqa: BLE001  # the heartbeat outlives every fault of one beat
                _log.exception("sync failed")
            for lease in [lease for holder in self._holders for lease in holder.leases.values()]:
                self._look_after_idle(lease)
            interval_ms = REPORT_INTERVAL_MS if self._graves else SYNC_INTERVAL_MS
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurried.wait(), interval_ms / 1000)
            # Notices come in swarms; one sync answers them all.
            await asyncio.sleep(0.002)

    def _look_after_idle(self, lease: Lease) -> None:
        now = self._now()
        idle_ms = now - lease.used_at
        over = now >= lease.ends_at and not (lease.unlimited and idle_ms < UNLIMITED_GRACE_MS)
        if over or (idle_ms > IDLE_CLOSE_MS and not lease.in_flight):
            self._end(lease)
        elif idle_ms > IDLE_TRIM_MS and not lease.unlimited and lease.taken < lease.granted:
            self._spawn(self._trim(lease))

    async def _sync(self) -> None:
        sent_at = self._now()
        buried = [grave for grave in self._graves if grave.buried]
        request = wire.SyncRequest(
            holders=[holder.wire for holder in self._holders],
            unconfirmed=[*self._lease_marks()],
            unconfirmed_levels=[
                wire.LevelMark(store=m.holder.store.name, account_id=m.account_id, meter=m.meter, seq=m.seq)
                for m in self._levels.values()
                if m.seq >= 0
            ],
            behind_ms=self._behind_ms(sent_at),
            buried=[wire.Holder(store=g.holder.store.name, epoch=g.epoch) for g in buried],
            exclusive=all(holder.store.exclusive for holder in self._holders),
            leases=[lease.id for holder in self._holders for lease in (*holder.leases.values(), *holder.ending)],
        )
        epochs = [holder.epoch for holder in self._holders]
        reply = await self._service.sync(request)
        lost = {(h.store, h.epoch) for h in reply.lost}
        for holder, epoch in zip(self._holders, epochs, strict=True):
            if (holder.store.name, epoch) in lost:
                self._spawn(self.fenced(holder.index, epoch))
            elif holder.epoch == epoch:
                holder.valid_until = sent_at + reply.valid_ms
        for grave in buried:
            await grave.holder.store.forget(grave.epoch, None)
            self._graves.remove(grave)
        await self._confirm(reply)
        await self._obey(reply)

    def _lease_marks(self) -> Iterable[wire.LeaseMark]:
        for holder in self._holders:
            for lease in holder.leases.values():
                if lease.published > lease.confirmed:
                    yield wire.LeaseMark(lease_id=lease.id, seq=lease.published)
            for lease in holder.ending:
                if lease.published_at:
                    yield wire.LeaseMark(lease_id=lease.id, seq=lease.published, final=True)
        for grave in self._graves:
            for lease_id in grave.unconfirmed:
                yield wire.LeaseMark(lease_id=lease_id, seq=_units((grave.rows or {})[lease_id]))

    def _behind_ms(self, now: int) -> int:
        waiting = [
            now - lease.published_at
            for holder in self._holders
            for lease in (*holder.leases.values(), *holder.ending)
            if lease.published > lease.confirmed
        ]
        return max(waiting, default=0)

    async def _confirm(self, reply: wire.SyncReply) -> None:
        confirmed = {mark.lease_id: mark for mark in reply.confirmed}
        for holder in self._holders:
            ended = []
            for lease in (*holder.leases.values(), *holder.ending):
                mark = confirmed.get(lease.id)
                if mark is None:
                    continue
                lease.confirmed = max(lease.confirmed, mark.seq)
                if lease.closed and mark.final and not lease.dirty and not lease.in_flight and not lease.buffer:
                    ended.append(lease)
            if ended:
                await holder.store.forget(holder.epoch, [lease.id for lease in ended])
                holder.ending = [lease for lease in holder.ending if lease not in ended]
        for grave in self._graves:
            if grave.rows is not None and not grave.buried:
                grave.unconfirmed -= confirmed.keys()
                grave.buried = not grave.unconfirmed
        indexes = {holder.store.name: holder.index for holder in self._holders}
        for level_mark in reply.confirmed_levels:
            key = (indexes[level_mark.store], level_mark.account_id, level_mark.meter)
            known = self._levels.get(key)
            if known is not None and not known.dirty and known.seq <= level_mark.seq:
                del self._levels[key]

    async def _obey(self, reply: wire.SyncReply) -> None:
        recalled = set(reply.recalled)
        if recalled:
            for holder in self._holders:
                for lease in holder.leases.values():
                    if lease.id in recalled:
                        self._spawn(self._trim(lease))
            self._report_soon.set()
        holders = {holder.store.name: holder for holder in self._holders}
        for ref in reply.recalled_levels:
            self._spawn(self._trim_level(holders[ref.store], ref.account_id, ref.meter))
        known = {(grave.holder.store.name, grave.epoch) for grave in self._graves}
        for dead in reply.dead:
            if (dead.store, dead.epoch) not in known and dead.epoch != holders[dead.store].epoch:
                self._graves.append(_Grave(holders[dead.store], dead.epoch))
        if self._graves:
            self._report_soon.set()

    async def _trim(self, lease: Lease) -> None:
        """Promise never to use more than is taken now."""
        async with self._lock((lease.holder.index, lease.account_id, lease.meter)):
            if lease.closed:
                return
            keep = lease.taken
            # Until metering has answered, the promise may or may not have been heard: it binds at once.
            lease.limit = keep
            sent_at = self._now()
            try:
                state = await self._service.trim(
                    wire.TrimRequest(holder=lease.holder.wire, lease_id=lease.id, version=lease.version, keep=keep)
                )
            except TovukError as error:
                _log.info("trim of lease %d was not answered: %s", lease.id, error)
                return
            lease.adopt(state, sent_at)
            if lease.closed:
                self._end(lease)

    async def _trim_level(self, holder: Holder, account_id: str, meter: str) -> None:
        async with self._lock((holder.index, account_id, meter)):
            level = await holder.store.trim_allowance(account_id, meter)
            try:
                await self._service.trim_level(
                    wire.TrimLevelRequest(
                        level=wire.LevelRef(store=holder.store.name, account_id=account_id, meter=meter),
                        version=level.version,
                        bytes=level.bytes,
                        allowance=level.allowance,
                        seq=level.seq,
                    )
                )
            except TovukError as error:
                _log.info("trim of a level was not answered: %s", error)

    # Reports.

    async def _reporter(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._report_soon.wait(), REPORT_INTERVAL_MS / 1000)
            self._report_soon.clear()
            try:
                await self._report()
            except TovukError as error:
                _log.info("usage is not reported: %s", error)
            except Exception:  # noqa: BLE001  # reporting outlives every fault of one round
                _log.exception("report failed")

    async def _report(self) -> None:
        for holder in list(self._holders):
            try:
                await self._flush(holder)
                await self._publish_leases(holder)
            except Fenced:
                await self.fenced(holder.index, holder.epoch)
        for grave in list(self._graves):
            await self._publish_grave(grave)
        await self._publish_levels()

    async def _flush(self, holder: Holder) -> None:
        """Move buffered units into the store."""
        flushed: list[tuple[Lease, dict[tuple[str, str], int]]] = []
        rows: list[UsageRow] = []
        for lease in (*holder.leases.values(), *holder.ending):
            if lease.buffer:
                buffer, lease.buffer = lease.buffer, {}
                flushed.append((lease, buffer))
                rows += [UsageRow(lease.id, service, resource, units) for (service, resource), units in buffer.items()]
        if not rows:
            return
        try:
            await holder.store.add(holder.epoch, rows)
        except TovukError as error:
            if error.outcome is not Outcome.UNKNOWN:
                for lease, buffer in flushed:
                    for line, units in buffer.items():
                        lease.buffer[line] = lease.buffer.get(line, 0) + units
            # Where it is unknown, reads may stay unbilled but are never billed twice.
            raise
        for lease, _ in flushed:
            lease.dirty = True

    async def _publish_leases(self, holder: Holder) -> None:
        now = self._now()
        due = []
        for lease in (*holder.leases.values(), *holder.ending):
            overdue = (
                lease.published > lease.confirmed or lease.closed
            ) and now - lease.published_at > REPUBLISH_AFTER_MS
            if lease.dirty or overdue:
                due.append(lease)
        for start in range(0, len(due), REPORT_LEASES_MAX):
            batch = due[start : start + REPORT_LEASES_MAX]
            ends = {lease.id: lease.closed and not lease.in_flight and not lease.buffer for lease in batch}
            for lease in batch:
                lease.dirty = False
            try:
                rows = _by_lease(await holder.store.usage(holder.epoch, [lease.id for lease in batch]))
                report = wire.UsageReport(store=holder.store.name)
                for lease in batch:
                    lines = rows.get(lease.id, [])
                    report.leases.append(_totals(lease.id, holder.epoch, lines, final=ends[lease.id]))
                taken = await self._sink.publish(report)
            except TovukError:
                taken = False
            for lease in batch:
                if taken and (ends[lease.id] or not lease.closed):
                    lease.published = max(lease.published, _units(rows.get(lease.id, [])))
                    lease.published_at = now
                else:
                    lease.dirty = True

    async def _publish_grave(self, grave: _Grave) -> None:
        store = grave.holder.store
        if grave.rows is None:
            await store.fence(grave.epoch)
            grave.rows = _by_lease(await store.usage(grave.epoch, None))
            grave.unconfirmed = set(grave.rows)
            grave.buried = not grave.unconfirmed
            self.hurry()
        left = sorted(grave.unconfirmed)
        for start in range(0, len(left), REPORT_LEASES_MAX):
            report = wire.UsageReport(store=store.name)
            for lease_id in left[start : start + REPORT_LEASES_MAX]:
                report.leases.append(_totals(lease_id, grave.epoch, grave.rows[lease_id], final=False))
            await self._sink.publish(report)

    async def _publish_levels(self) -> None:
        now = self._now()
        by_holder: dict[int, list[_LevelMark]] = {}
        for mark in self._levels.values():
            if mark.dirty or now - mark.published_at > REPUBLISH_AFTER_MS:
                by_holder.setdefault(mark.holder.index, []).append(mark)
        for index, marks in by_holder.items():
            store = self._holders[index].store
            report = wire.UsageReport(store=store.name)
            for mark in marks:
                mark.dirty = False
                level = await store.level(mark.account_id, mark.meter)
                mark.seq = level.seq
                report.levels.append(
                    wire.LevelTotals(
                        account_id=mark.account_id,
                        meter=mark.meter,
                        seq=level.seq,
                        bytes=level.bytes,
                        lines=[wire.UsageLine(service_id=s, resource_id=r, units=b) for s, r, b in level.lines],
                    )
                )
            if await self._sink.publish(report):
                for mark in marks:
                    mark.published_at = now

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(self._logged(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    @staticmethod
    async def _logged(work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except TovukError as error:
            _log.info("metering work failed, it will be asked again: %s", error)


def _by_lease(rows: Iterable[UsageRow]) -> dict[int, list[UsageRow]]:
    grouped: dict[int, list[UsageRow]] = {}
    for row in rows:
        grouped.setdefault(row.lease_id, []).append(row)
    return grouped


def _units(rows: Iterable[UsageRow]) -> int:
    return sum(row.units for row in rows)


def _totals(lease_id: int, epoch: int, rows: list[UsageRow], *, final: bool) -> wire.LeaseTotals:
    return wire.LeaseTotals(
        lease_id=lease_id,
        epoch=epoch,
        seq=_units(rows),
        final=final,
        lines=[wire.UsageLine(service_id=r.service_id, resource_id=r.resource_id, units=r.units) for r in rows],
    )
