"""The heartbeat: a process shows metering that it lives, and does what metering asks of it.

Source: metering.md 2 (recall), 4 (idle leases), 5 (death), 7 (setting a cap), 8 (levels).
"""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Iterable, Iterator
from typing import Any

from tovuk.metering.v1 import metering_pb2 as wire
from tovuk_kit.clock import Clock
from tovuk_kit.errors import StoreUnavailable, TovukError
from tovuk_kit.holding import Grave, Holder, Holdings, Lease, LeaseService
from tovuk_kit.usage import units_of

_log = logging.getLogger(__name__)

#: How often a process shows that it lives.
SYNC_INTERVAL_MS = 1_000
#: The same while it has dead epochs to bury.
BURIAL_INTERVAL_MS = 100
#: A limited lease without a charge for so long gives its unused units back.
IDLE_TRIM_MS = 1_000
#: A lease without a charge for so long is closed.
IDLE_CLOSE_MS = 60_000
#: How long an unlimited lease lives on at a time while metering is away.
UNLIMITED_GRACE_MS = 5_000


class Heartbeat:
    """Syncs every second, or at once when hurried; trims, begins new epochs and marks the dead for burial."""

    def __init__(self, held: Holdings, service: LeaseService, clock: Clock) -> None:
        self._held = held
        self._service = service
        self._now = clock.boot_ms
        #: The last beat was not answered.
        self.away = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            self._held.sync_soon.clear()
            try:
                await self._beat()
            except Exception:  # noqa: BLE001  # the heartbeat outlives every fault of one beat
                _log.exception("a heartbeat failed")
            for lease in [lease for holder in self._held.holders for lease in holder.leases.values()]:
                self._look_after_idle(lease)
            interval_ms = BURIAL_INTERVAL_MS if self._held.graves else SYNC_INTERVAL_MS
            # Python 3.11's wait_for loses a cancellation that meets the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval_ms / 1000):
                    await self._held.sync_soon.wait()
            # Notices come in swarms; one sync answers them all.
            await asyncio.sleep(0.002)

    async def fenced(self, holder: Holder, epoch: int) -> None:
        """Let a holder whose `epoch` is dead begin anew; the new epoch is live when this returns.

        Raises StoreUnavailable.
        """
        if holder.epoch == epoch:
            if holder.renewing is None:
                holder.renewing = self._spawn(self._renew(holder))
            await asyncio.shield(holder.renewing)
            if holder.epoch == epoch:
                raise StoreUnavailable(retry_after_ms=1_000)

    def stop(self) -> None:
        """Cancel what is under way."""
        for task in self._tasks:
            task.cancel()

    def _look_after_idle(self, lease: Lease) -> None:
        if lease.unlimited and self.away:
            # It could not be had again: what is known to be without a limit goes on.
            return
        now = self._now()
        idle_ms = now - lease.used_at
        over = now >= lease.ends_at and not (lease.unlimited and idle_ms < UNLIMITED_GRACE_MS)
        if over or (idle_ms > IDLE_CLOSE_MS and not lease.in_flight):
            self._held.end(lease)
        elif idle_ms > IDLE_TRIM_MS and not lease.unlimited and lease.taken < lease.granted:
            self._spawn(self._trim(lease))

    async def _beat(self) -> None:
        """Sync once, and do what metering asks."""
        sent_at = self._now()
        buried = [grave for grave in self._held.graves if grave.buried]
        request = wire.SyncRequest(
            holders=[holder.on_wire for holder in self._held.holders],
            unconfirmed=[*self._lease_marks()],
            unconfirmed_levels=[
                wire.LevelMark(store=m.holder.store.name, account_id=m.account_id, meter=m.meter, seq=m.seq)
                for m in self._held.levels.values()
                if m.seq >= 0
            ],
            behind_ms=self._behind_ms(sent_at),
            buried=[wire.Holder(store=g.holder.store.name, epoch=g.epoch) for g in buried],
            exclusive=all(holder.store.exclusive for holder in self._held.holders),
            leases=[lease.id for holder in self._held.holders for lease in (*holder.leases.values(), *holder.ending)],
        )
        epochs = [holder.epoch for holder in self._held.holders]
        try:
            reply = await self._service.sync(request)
        except TovukError as error:
            self._go_on_alone()
            _log.info("metering does not answer: %s", error)
            return
        self.away = False
        lost = {(h.store, h.epoch) for h in reply.lost}
        for holder, epoch in zip(self._held.holders, epochs, strict=True):
            if (holder.store.name, epoch) in lost:
                if holder.epoch == epoch:
                    # Units counted in memory meet no fence.
                    holder.valid_until = holder.unlimited_until = 0
                self._spawn(self.fenced(holder, epoch))
            elif holder.epoch == epoch:
                holder.valid_until = holder.unlimited_until = sent_at + reply.valid_ms
        # What others wait for comes before what only saves room, which an unreachable store may hold up.
        self._obey(reply)
        self._confirm_levels(reply)
        await asyncio.gather(*(self._confirm_at(holder, reply) for holder in self._held.holders))
        await asyncio.gather(*(self._forget_grave(grave) for grave in buried))

    def _go_on_alone(self) -> None:
        """Metering is away: what no limit binds goes on, unless this holder may already have been given up."""
        self.away = True
        now = self._now()
        for holder in self._held.holders:
            if now < holder.unlimited_until:
                holder.unlimited_until = now + UNLIMITED_GRACE_MS

    def _lease_marks(self) -> Iterable[wire.LeaseMark]:
        for holder in self._held.holders:
            for lease in holder.leases.values():
                if lease.published > lease.confirmed:
                    yield wire.LeaseMark(lease_id=lease.id, seq=lease.published)
            for lease in holder.ending:
                if lease.published_at:
                    yield wire.LeaseMark(lease_id=lease.id, seq=lease.published, final=True)
        for grave in self._held.graves:
            for lease_id in grave.unconfirmed:
                yield wire.LeaseMark(lease_id=lease_id, seq=units_of((grave.rows or {})[lease_id]))

    def _behind_ms(self, now: int) -> int:
        waiting = [
            now - lease.published_at
            for holder in self._held.holders
            for lease in (*holder.leases.values(), *holder.ending)
            if lease.published > lease.confirmed
        ]
        return max(waiting, default=0)

    async def _confirm_at(self, holder: Holder, reply: wire.SyncReply) -> None:
        """Forget at one store what metering has applied."""
        confirmed = {mark.lease_id: mark for mark in reply.confirmed}
        for grave in self._held.graves:
            if grave.holder is holder and grave.rows is not None and not grave.buried:
                grave.unconfirmed -= confirmed.keys()
                grave.buried = not grave.unconfirmed
        ended = []
        for lease in (*holder.leases.values(), *holder.ending):
            mark = confirmed.get(lease.id)
            if mark is None:
                continue
            lease.confirmed = max(lease.confirmed, mark.seq)
            if lease.closed and mark.final and not lease.dirty and not lease.in_flight and not lease.buffer:
                ended.append(lease)
        if ended:
            with _logged():
                await holder.store.forget(holder.epoch, [lease.id for lease in ended])
                holder.ending = [lease for lease in holder.ending if lease not in ended]

    async def _forget_grave(self, grave: Grave) -> None:
        with _logged():
            await grave.holder.store.forget(grave.epoch, None)
            self._held.graves.remove(grave)

    def _confirm_levels(self, reply: wire.SyncReply) -> None:
        indexes = {holder.store.name: holder.index for holder in self._held.holders}
        for level_mark in reply.confirmed_levels:
            key = (indexes[level_mark.store], level_mark.account_id, level_mark.meter)
            known = self._held.levels.get(key)
            if known is not None and not known.dirty and 0 <= known.seq <= level_mark.seq:
                del self._held.levels[key]

    def _obey(self, reply: wire.SyncReply) -> None:
        recalled = set(reply.recalled)
        if recalled:
            for holder in self._held.holders:
                for lease in holder.leases.values():
                    if lease.id in recalled:
                        self._spawn(self._trim(lease))
            self._held.report_soon.set()
        holders = {holder.store.name: holder for holder in self._held.holders}
        for ref in reply.recalled_levels:
            self._spawn(self._trim_level(holders[ref.store], ref.account_id, ref.meter))
        known = {(grave.holder.store.name, grave.epoch) for grave in self._held.graves}
        for dead in reply.dead:
            if (dead.store, dead.epoch) not in known and dead.epoch != holders[dead.store].epoch:
                self._held.graves.append(Grave(holders[dead.store], dead.epoch))
        if self._held.graves:
            self._held.report_soon.set()

    async def _trim(self, lease: Lease) -> None:
        """Promise never to use more than is taken now."""
        async with self._held.lock((lease.holder.index, lease.account_id, lease.meter)):
            if lease.closed:
                return
            keep = lease.taken
            # Until metering has answered, the promise may or may not have been heard: it binds at once.
            lease.limit = keep
            sent_at = self._now()
            try:
                state = await self._service.trim(
                    wire.TrimRequest(holder=lease.holder.on_wire, lease_id=lease.id, version=lease.version, keep=keep)
                )
            except TovukError as error:
                _log.info("trim of lease %d was not answered: %s", lease.id, error)
                return
            lease.adopt(state, sent_at)
            if lease.closed:
                self._held.end(lease)

    async def _trim_level(self, holder: Holder, account_id: str, meter: str) -> None:
        async with self._held.lock((holder.index, account_id, meter)):
            try:
                if await self._lower_allowance(holder, account_id, meter):
                    return
                # An allowance that was granted earlier never arrived: once the store has it, a trim counts again.
                level = await holder.store.level(account_id, meter)
                reply = await self._service.allow(holder.allow_request(level, want_bytes=level.bytes))
                if reply.WhichOneof("result") == "allowance":
                    await holder.take_allowance(level, reply.allowance)
                    await self._lower_allowance(holder, account_id, meter)
            except TovukError as error:
                _log.info("trim of a level was not answered: %s", error)

    async def _lower_allowance(self, holder: Holder, account_id: str, meter: str) -> bool:
        """Lower the store's allowance to its bytes and tell metering; whether that counted there."""
        level = await holder.store.trim_allowance(account_id, meter)
        reply = await self._service.trim_level(
            wire.TrimLevelRequest(
                level=wire.LevelRef(store=holder.store.name, account_id=account_id, meter=meter),
                version=level.version,
                bytes=level.bytes,
                allowance=level.allowance,
                seq=level.seq,
            )
        )
        return not reply.stale

    async def _renew(self, holder: Holder) -> None:
        """Begin a new epoch after the old one was given up, and bury the old one."""
        old = holder.epoch
        try:
            await holder.store.fence(old)
            holder.epoch = await holder.store.begin_epoch()
            # What was buffered under the dead epoch is burnt with it: it may have been given up long ago.
            holder.leases.clear()
            holder.ending.clear()
            holder.doubtful = False
            holder.valid_until = holder.unlimited_until = 0
            self._held.graves.append(Grave(holder, old))
            await self.distrust_allowances(holder)
        finally:
            holder.renewing = None
        self._held.sync_soon.set()

    async def distrust_allowances(self, holder: Holder) -> None:
        """Give up the allowances at a store: a limit may have been set while nobody was there to hear of it."""
        for level in await holder.store.levels():
            await holder.store.trim_allowance(level.account_id, level.meter)
            self._held.level_changed(holder, level.account_id, level.meter)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(_logging(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _logging(work: Coroutine[Any, Any, None]) -> None:
    with _logged():
        await work


@contextlib.contextmanager
def _logged() -> Iterator[None]:
    """Work that metering or the next beat asks for again when it fails."""
    try:
        yield
    except TovukError as error:
        _log.info("metering work failed, it will be asked again: %s", error)
