"""Totals on their way from a holder to metering."""

import asyncio
from collections.abc import Sequence

from scripted import ACCOUNT, ScriptedMetering, ScriptedStore, granted, in_virtual_time, unlimited, virtual_clock

from tovuk.metering.v1 import metering_pb2 as wire
from tovuk_kit.errors import Outcome, StoreUnavailable, TovukError
from tovuk_kit.leases import Meters
from tovuk_kit.meters import MeterName
from tovuk_kit.usage import Level, UsageRow

WRITES: MeterName = "kv_writes"
READS: MeterName = "kv_reads"
STORAGE: MeterName = "kv_storage_bytes"


class Leaky(ScriptedStore):
    """Fails the next flush, before or after it took effect."""

    def __init__(self, error: TovukError, *, landed: bool) -> None:
        super().__init__()
        self.error: TovukError | None = error
        self._landed = landed

    async def add(self, epoch: int, rows: Sequence[UsageRow]) -> None:
        error, self.error = self.error, None
        if error is None or self._landed:
            await super().add(epoch, rows)
        if error is not None:
            raise error


async def holding(metering: ScriptedMetering, *stores: ScriptedStore) -> Meters:
    """A process at these stores whose first heartbeat has been answered."""
    meters = Meters(leases=metering, reports=metering, clock=virtual_clock())
    await meters.start(stores)
    await asyncio.sleep(0.05)
    return meters


def row(lease_id: int, units: int = 1) -> UsageRow:
    return UsageRow(lease_id, "service", "resource", units)


@in_virtual_time
async def test_counted_units_are_flushed_and_reported_within_a_moment() -> None:
    metering, store = ScriptedMetering(), ScriptedStore()
    metering.acquires.append(granted(7, 10))
    meters = await holding(metering, store)
    lease = await meters.acquire(0, ACCOUNT, READS, 3)
    meters.count(lease, "service", "resource", 3)
    await asyncio.sleep(0.25)
    assert await store.usage(lease.epoch, [7]) == [row(7, 3)]
    lines = [(line.service_id, line.resource_id, line.units) for line in metering.totals()[7].lines]
    assert lines == [("service", "resource", 3)]


@in_virtual_time
async def test_units_of_a_flush_that_failed_are_flushed_again() -> None:
    metering, store = ScriptedMetering(), Leaky(StoreUnavailable(), landed=False)
    metering.acquires.append(granted(7, 10))
    meters = await holding(metering, store)
    meters.count(await meters.acquire(0, ACCOUNT, READS, 3), "service", "resource", 3)
    await asyncio.sleep(0.5)
    assert store.error is None
    assert metering.totals()[7].seq == 3


async def _flush_in_doubt(*, landed: bool) -> tuple[ScriptedMetering, int]:
    metering, store = ScriptedMetering(), Leaky(StoreUnavailable(outcome=Outcome.UNKNOWN), landed=landed)
    metering.acquires.append(granted(7, 10))
    meters = await holding(metering, store)
    lease = await meters.acquire(0, ACCOUNT, READS, 3)
    meters.count(lease, "service", "resource", 3)
    await asyncio.sleep(3)
    await meters.close()
    return metering, lease.epoch


@in_virtual_time
async def test_units_whose_flush_is_in_doubt_are_never_billed_twice() -> None:
    metering, _ = await _flush_in_doubt(landed=True)
    assert metering.totals()[7].seq == 3


@in_virtual_time
async def test_units_whose_flush_is_in_doubt_are_burnt_and_not_given_back() -> None:
    metering, epoch = await _flush_in_doubt(landed=False)
    # A final report would free what was served; buried, the lease's remainder is burnt.
    assert not any(totals.final for report in metering.reports for totals in report.leases)
    assert epoch in [holder.epoch for sync in metering.synced for holder in sync.buried]


@in_virtual_time
async def test_a_total_is_final_only_when_nothing_is_in_flight() -> None:
    metering, store = ScriptedMetering(), ScriptedStore()
    metering.acquires.append(granted(7, 10, ends_in_ms=500))
    meters = await holding(metering, store)
    lease = await meters.acquire(0, ACCOUNT, WRITES)
    await asyncio.sleep(3)
    assert lease.closed
    assert not any(totals.final for report in metering.reports for totals in report.leases)
    await store.effect(lease.epoch, row(7), lambda: None)
    meters.spent(lease)
    await asyncio.sleep(0.3)
    assert (metering.totals()[7].seq, metering.totals()[7].final) == (1, True)


@in_virtual_time
async def test_a_total_is_published_until_it_is_confirmed() -> None:
    metering, store = ScriptedMetering(), ScriptedStore()
    metering.acquires.append(unlimited(7))
    metering.confirming = False
    meters = await holding(metering, store)
    lease = await meters.acquire(0, ACCOUNT, WRITES)
    await store.effect(lease.epoch, row(7), lambda: None)
    meters.spent(lease)
    await asyncio.sleep(5)
    published = len(metering.reports)
    assert published >= 3
    metering.confirming = True
    await asyncio.sleep(2)
    published = len(metering.reports)
    await asyncio.sleep(5)
    assert len(metering.reports) == published


@in_virtual_time
async def test_a_pipe_that_takes_nothing_is_tried_until_it_does() -> None:
    metering, store = ScriptedMetering(), ScriptedStore()
    metering.acquires.append(unlimited(7))
    metering.taking = False
    meters = await holding(metering, store)
    lease = await meters.acquire(0, ACCOUNT, WRITES)
    await store.effect(lease.epoch, row(7), lambda: None)
    meters.spent(lease)
    await asyncio.sleep(5)
    metering.taking = True
    await asyncio.sleep(0.3)
    assert metering.totals()[7].seq == 1


@in_virtual_time
async def test_many_leases_travel_in_several_reports() -> None:
    metering, store = ScriptedMetering(), ScriptedStore()
    metering.acquires.extend(unlimited(number) for number in range(1, 1_203))
    meters = await holding(metering, store)
    for number in range(1, 1_203):
        meters.count(await meters.acquire(0, f"account-{number}", READS), "service", "resource")
    await asyncio.sleep(0.5)
    assert len(metering.totals()) == 1_202
    assert max(len(report.leases) for report in metering.reports) <= 500


@in_virtual_time
async def test_a_level_is_reported_with_its_lines_until_confirmed() -> None:
    metering, store = ScriptedMetering(), ScriptedStore()
    metering.taking = False
    meters = await holding(metering, store)
    await store.set_allowance(ACCOUNT, STORAGE, 1, 100)
    await store.grow(1, ACCOUNT, STORAGE, 40)
    meters.level_changed(0, ACCOUNT, STORAGE)
    await asyncio.sleep(3)
    metering.taking = True
    await asyncio.sleep(3)
    totals = metering.level_totals()[STORAGE]
    assert (totals.bytes, totals.seq, [line.units for line in totals.lines]) == (40, 1, [40])
    published = len(metering.reports)
    await asyncio.sleep(5)
    assert len(metering.reports) == published


@in_virtual_time
async def test_a_level_read_while_its_last_report_is_confirmed_is_still_reported() -> None:
    asked, answer, reading, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event(), asyncio.Event()

    class SlowMetering(ScriptedMetering):
        async def sync(self, request: wire.SyncRequest) -> wire.SyncReply:
            reply = await super().sync(request)
            if request.unconfirmed_levels and not asked.is_set():
                asked.set()
                await answer.wait()
            return reply

    class SlowStore(ScriptedStore):
        async def level(self, account_id: str, meter: str) -> Level:
            if self.stored(account_id, meter) == 60 and not reading.is_set():
                reading.set()
                await go_on.wait()
            return await super().level(account_id, meter)

    metering, store = SlowMetering(), SlowStore()
    meters = await holding(metering, store)
    await store.set_allowance(ACCOUNT, STORAGE, 1, 100)
    await store.grow(1, ACCOUNT, STORAGE, 40)
    meters.level_changed(0, ACCOUNT, STORAGE)
    await asked.wait()
    await store.grow(1, ACCOUNT, STORAGE, 20)
    meters.level_changed(0, ACCOUNT, STORAGE)
    await reading.wait()
    answer.set()
    await asyncio.sleep(0.05)
    # The pipe loses the report of the newer state; only a second one brings it.
    kept = len(metering.reports)
    go_on.set()
    await asyncio.sleep(0.05)
    del metering.reports[kept:]
    await asyncio.sleep(3)
    assert metering.level_totals()[STORAGE].bytes == 60


@in_virtual_time
async def test_a_store_that_cannot_be_reached_keeps_no_other_from_reporting() -> None:
    metering, dead_end, store = ScriptedMetering(), ScriptedStore("kv/a/0"), ScriptedStore("kv/b/1")
    metering.acquires.extend([unlimited(7), unlimited(8)])
    meters = await holding(metering, dead_end, store)
    meters.count(await meters.acquire(0, ACCOUNT, READS), "service", "resource")
    dead_end.cut()
    lease = await meters.acquire(1, ACCOUNT, WRITES)
    await store.effect(lease.epoch, row(8), lambda: None)
    meters.spent(lease)
    meters.level_changed(0, ACCOUNT, STORAGE)
    meters.level_changed(1, ACCOUNT, STORAGE)
    await asyncio.sleep(0.5)
    assert metering.totals().keys() == {8}
    assert [report.store for report in metering.reports if report.levels] == [store.name]
    dead_end.mend()
    await asyncio.sleep(0.5)
    assert metering.totals()[7].seq == 1
