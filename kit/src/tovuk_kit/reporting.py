"""Reporting: buffered units are flushed into the store, and the store's absolute totals published to metering.

Source: metering.md 3, 4, 6. What is published may be lost or repeated; it is published again until confirmed.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable

from tovuk.metering.v1 import metering_pb2 as wire
from tovuk_kit.clock import Clock
from tovuk_kit.errors import Outcome, TovukError
from tovuk_kit.holding import Grave, Holder, Holdings, Lease, ReportSink
from tovuk_kit.usage import Fenced, UsageRow, units_of

_log = logging.getLogger(__name__)

#: How often buffered units are flushed and totals reported.
REPORT_INTERVAL_MS = 100
#: How long a published total may stay unconfirmed before it is published again.
REPUBLISH_AFTER_MS = 1_000
#: Leases of one report message.
REPORT_LEASES_MAX = 500


class Reporter:
    """Flushes and publishes every 100 ms, or at once when someone waits for the totals."""

    def __init__(
        self, held: Holdings, sink: ReportSink, clock: Clock, fenced: Callable[[Holder, int], Awaitable[None]]
    ) -> None:
        self._held = held
        self._sink = sink
        self._now = clock.boot_ms
        self._fenced = fenced
        self._stopped = False

    async def run(self) -> None:
        """Report until `stop`."""
        while not self._stopped:
            # Python 3.11's wait_for loses a cancellation that meets the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REPORT_INTERVAL_MS / 1000):
                    await self._held.report_soon.wait()
            self._held.report_soon.clear()
            try:
                await self.report()
            except Exception:  # noqa: BLE001  # reporting outlives every fault of one round
                _log.exception("report failed")

    def stop(self) -> None:
        """End `run` after the round under way, which holds units that are nowhere else."""
        self._stopped = True
        self._held.report_soon.set()

    async def report(self) -> None:
        """One round. A store that cannot be reached holds up no other."""
        await asyncio.gather(*(self._report_at(holder) for holder in self._held.holders))

    async def _report_at(self, holder: Holder) -> None:
        epoch = holder.epoch
        try:
            try:
                await self._flush(holder)
                await self._publish_leases(holder)
            except Fenced:
                await self._fenced(holder, epoch)
            for grave in [grave for grave in self._held.graves if grave.holder is holder]:
                await self._publish_grave(grave)
            await self._publish_levels(holder)
        except TovukError as error:
            _log.info("usage at %s is not reported: %s", holder.store.name, error)

    async def _flush(self, holder: Holder) -> None:
        """Move buffered units into the store. Raises Fenced when the epoch has to end."""
        if holder.doubtful:
            raise Fenced
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
            if error.outcome is Outcome.UNKNOWN:
                # Added again they might be billed twice, and left out they would be given back though they were used.
                holder.doubtful = True
                raise Fenced from error
            for lease, buffer in flushed:
                for line, units in buffer.items():
                    lease.buffer[line] = lease.buffer.get(line, 0) + units
            raise
        for lease, _ in flushed:
            lease.dirty = True

    async def _publish_leases(self, holder: Holder) -> None:
        now = self._now()
        # The epoch may change while the store is asked; these leases belong to this one.
        epoch = holder.epoch
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
                rows = _by_lease(await holder.store.usage(epoch, [lease.id for lease in batch]))
                report = wire.UsageReport(store=holder.store.name)
                for lease in batch:
                    lines = rows.get(lease.id, [])
                    report.leases.append(_totals(lease.id, epoch, lines, final=ends[lease.id]))
                taken = await self._sink.publish(report)
            except TovukError:
                taken = False
            for lease in batch:
                if taken and (ends[lease.id] or not lease.closed):
                    lease.published = max(lease.published, units_of(rows.get(lease.id, [])))
                    lease.published_at = now
                else:
                    lease.dirty = True

    async def _publish_grave(self, grave: Grave) -> None:
        store = grave.holder.store
        if grave.rows is None:
            await store.fence(grave.epoch)
            grave.rows = _by_lease(await store.usage(grave.epoch, None))
            grave.unconfirmed = set(grave.rows)
            grave.buried = not grave.unconfirmed
            self._held.sync_soon.set()
        left = sorted(grave.unconfirmed)
        for start in range(0, len(left), REPORT_LEASES_MAX):
            report = wire.UsageReport(store=store.name)
            for lease_id in left[start : start + REPORT_LEASES_MAX]:
                report.leases.append(_totals(lease_id, grave.epoch, grave.rows[lease_id], final=False))
            await self._sink.publish(report)

    async def _publish_levels(self, holder: Holder) -> None:
        now = self._now()
        due = [
            mark
            for mark in self._held.levels.values()
            if mark.holder is holder and (mark.dirty or now - mark.published_at > REPUBLISH_AFTER_MS)
        ]
        report = wire.UsageReport(store=holder.store.name)
        for mark in due:
            # While the level is read, a confirmation of what was published before must not settle it.
            mark.dirty, mark.seq = False, -1
            try:
                level = await holder.store.level(mark.account_id, mark.meter)
            except TovukError:
                mark.dirty = True
                raise
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
        if due and await self._sink.publish(report):
            for mark in due:
                mark.published_at = now


def _by_lease(rows: Iterable[UsageRow]) -> dict[int, list[UsageRow]]:
    grouped: dict[int, list[UsageRow]] = {}
    for row in rows:
        grouped.setdefault(row.lease_id, []).append(row)
    return grouped


def _totals(lease_id: int, epoch: int, rows: list[UsageRow], *, final: bool) -> wire.LeaseTotals:
    return wire.LeaseTotals(
        lease_id=lease_id,
        epoch=epoch,
        seq=units_of(rows),
        final=final,
        lines=[wire.UsageLine(service_id=r.service_id, resource_id=r.resource_id, units=r.units) for r in rows],
    )
