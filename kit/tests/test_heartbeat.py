"""What a process does when its heart beats: trim, begin anew, bury, and forget what is confirmed."""

import asyncio

import pytest
from scripted import ACCOUNT, ScriptedMetering, ScriptedStore, granted, in_virtual_time, unlimited, virtual_clock

from tovuk.metering.v1 import metering_pb2 as wire
from tovuk_kit.errors import StoreUnavailable
from tovuk_kit.leases import Meters
from tovuk_kit.meters import MeterName
from tovuk_kit.usage import Fenced, UsageRow

WRITES: MeterName = "kv_writes"
READS: MeterName = "kv_reads"
STORAGE: MeterName = "kv_storage_bytes"


async def holding(metering: ScriptedMetering, *stores: ScriptedStore) -> Meters:
    """A process at these stores whose first heartbeat has been answered."""
    meters = Meters(leases=metering, reports=metering, clock=virtual_clock())
    await meters.start(stores)
    await asyncio.sleep(0.05)
    return meters


def row(lease_id: int, units: int = 1) -> UsageRow:
    return UsageRow(lease_id, "service", "resource", units)


@in_virtual_time
async def test_a_recalled_lease_keeps_what_is_taken() -> None:
    metering = ScriptedMetering()
    metering.acquires.append(granted(7, 10))
    meters = await holding(metering, ScriptedStore())
    await meters.acquire(0, ACCOUNT, WRITES, 4)
    metering.orders.recalled.append(7)
    meters.hurry()
    await asyncio.sleep(0.05)
    assert [(trim.lease_id, trim.version, trim.keep) for trim in metering.trimmed] == [(7, 1, 4)]
    assert meters.take(0, ACCOUNT, WRITES) is None


@in_virtual_time
async def test_a_trim_without_an_answer_binds_at_once() -> None:
    metering = ScriptedMetering()
    metering.acquires.extend([granted(7, 10), granted(7, 12, version=3)])
    metering.trims_answered = False
    meters = await holding(metering, ScriptedStore())
    await meters.acquire(0, ACCOUNT, WRITES, 4)
    metering.orders.recalled.append(7)
    meters.hurry()
    await asyncio.sleep(0.05)
    assert meters.take(0, ACCOUNT, WRITES) is None
    await meters.acquire(0, ACCOUNT, WRITES)
    assert meters.take(0, ACCOUNT, WRITES, 7) is not None, "what metering says of the newest version holds again"


@in_virtual_time
async def test_an_idle_lease_gives_back_what_it_does_not_use() -> None:
    metering = ScriptedMetering()
    metering.acquires.append(granted(7, 10))
    meters = await holding(metering, ScriptedStore())
    await meters.acquire(0, ACCOUNT, WRITES, 4)
    await asyncio.sleep(0.8)
    assert not metering.trimmed
    await asyncio.sleep(1.5)
    assert [trim.keep for trim in metering.trimmed] == [4]


@in_virtual_time
async def test_a_lease_in_use_is_not_trimmed() -> None:
    metering = ScriptedMetering()
    metering.acquires.append(granted(7, 100))
    meters = await holding(metering, ScriptedStore())
    await meters.acquire(0, ACCOUNT, WRITES)
    for _ in range(10):
        await asyncio.sleep(0.5)
        assert meters.take(0, ACCOUNT, WRITES) is not None
    assert not metering.trimmed


@in_virtual_time
async def test_a_lease_idle_for_a_minute_is_closed_unless_an_effect_is_under_way() -> None:
    metering = ScriptedMetering()
    metering.acquires.extend([unlimited(7), unlimited(8)])
    meters = await holding(metering, ScriptedStore())
    meters.spent(await meters.acquire(0, ACCOUNT, WRITES))
    under_way = await meters.acquire(0, "another account", WRITES)
    await asyncio.sleep(63)
    assert (metering.totals()[7].final, metering.totals()[8].final if 8 in metering.totals() else False) == (
        True,
        False,
    )
    meters.spent(under_way)
    await asyncio.sleep(2)
    assert metering.totals()[8].final


@in_virtual_time
async def test_a_confirmed_final_total_is_forgotten_and_not_before() -> None:
    metering, store = ScriptedMetering(), ScriptedStore()
    metering.acquires.append(unlimited(7))
    metering.confirming = False
    meters = await holding(metering, store)
    lease = await meters.acquire(0, ACCOUNT, WRITES)
    await store.effect(lease.epoch, row(7), lambda: None)
    meters.spent(lease)
    await asyncio.sleep(70)
    assert await store.usage(lease.epoch, None) == [row(7)]
    metering.confirming = True
    await asyncio.sleep(3)
    assert await store.usage(lease.epoch, None) == []


@in_virtual_time
async def test_a_holder_that_is_lost_stops_at_once_begins_anew_and_buries_itself() -> None:
    metering, store = ScriptedMetering(), ScriptedStore()
    metering.acquires.extend([unlimited(7), unlimited(8)])
    meters = await holding(metering, store)
    lease = await meters.acquire(0, ACCOUNT, WRITES)
    await store.effect(lease.epoch, row(7), lambda: None)
    meters.spent(lease)
    metering.orders.lost.append(wire.Holder(store=store.name, epoch=lease.epoch))
    meters.hurry()
    await asyncio.sleep(0.05)
    with pytest.raises(Fenced):
        await store.effect(lease.epoch, row(7), lambda: None)
    assert (await meters.acquire(0, ACCOUNT, WRITES)).epoch > lease.epoch
    await asyncio.sleep(3)
    assert metering.totals()[7].seq == 1
    assert [holder.epoch for sync in metering.synced for holder in sync.buried] == [lease.epoch]
    assert await store.usage(lease.epoch, None) == []


@in_virtual_time
async def test_a_lost_holder_whose_store_cannot_be_fenced_charges_nothing_more() -> None:
    metering, store = ScriptedMetering(), ScriptedStore()
    metering.acquires.append(unlimited(7))
    meters = await holding(metering, store)
    lease = await meters.acquire(0, ACCOUNT, READS)
    store.cut()
    metering.orders.lost.append(wire.Holder(store=store.name, epoch=lease.epoch))
    meters.hurry()
    await asyncio.sleep(0.1)
    metering.away = True
    await asyncio.sleep(3)
    assert meters.take(0, ACCOUNT, READS) is None
    with pytest.raises(StoreUnavailable):
        await meters.fenced(0, lease.epoch)
    store.mend()
    await meters.fenced(0, lease.epoch)


@in_virtual_time
async def test_a_dead_neighbour_is_fenced_and_its_totals_are_reported_until_confirmed() -> None:
    metering, store = ScriptedMetering(), ScriptedStore()
    dead = await store.begin_epoch()
    await store.add(dead, [row(3, 5)])
    metering.confirming = False
    await holding(metering, store)
    metering.orders.dead.append(wire.Holder(store=store.name, epoch=dead))
    await asyncio.sleep(2)
    with pytest.raises(Fenced):
        await store.add(dead, [row(3)])
    assert (metering.totals()[3].seq, metering.totals()[3].epoch) == (5, dead)
    assert not any(sync.buried for sync in metering.synced)
    metering.confirming = True
    await asyncio.sleep(1)
    assert [holder.epoch for sync in metering.synced for holder in sync.buried] == [dead]
    assert await store.usage(dead, None) == []


@in_virtual_time
async def test_an_earlier_incarnation_of_an_owned_store_is_buried_at_the_start() -> None:
    metering, store = ScriptedMetering(), ScriptedStore(exclusive=True)
    dead = await store.begin_epoch()
    await store.add(dead, [row(3, 5)])
    await holding(metering, store)
    await asyncio.sleep(1)
    assert metering.totals()[3].seq == 5
    assert [holder.epoch for sync in metering.synced for holder in sync.buried] == [dead]
    assert all(sync.exclusive for sync in metering.synced)


@in_virtual_time
async def test_an_allowance_is_lowered_to_the_bytes_when_it_is_recalled() -> None:
    metering, store = ScriptedMetering(), ScriptedStore()
    await holding(metering, store)
    await store.set_allowance(ACCOUNT, STORAGE, 4, 100)
    metering.orders.recalled_levels.add(store=store.name, account_id=ACCOUNT, meter=STORAGE)
    await asyncio.sleep(1.2)
    assert [(word.version, word.allowance) for word in metering.levels_trimmed] == [(4, 0)]
    assert (await store.level(ACCOUNT, STORAGE)).allowance == 0


@in_virtual_time
async def test_allowances_of_an_earlier_life_are_not_trusted() -> None:
    store = ScriptedStore()
    await store.set_allowance(ACCOUNT, STORAGE, 4, 100)
    metering = ScriptedMetering()
    await holding(metering, store)
    assert (await store.level(ACCOUNT, STORAGE)).allowance == 0
    await asyncio.sleep(0.2)
    assert STORAGE in metering.level_totals()


@in_virtual_time
async def test_a_store_that_cannot_be_reached_keeps_no_other_from_obeying() -> None:
    metering, dead_end, store = ScriptedMetering(), ScriptedStore("kv/a/0"), ScriptedStore("kv/b/1")
    dead = await dead_end.begin_epoch()
    await dead_end.add(dead, [row(3)])
    metering.acquires.extend([granted(7, 10), granted(8, 10)])
    meters = await holding(metering, dead_end, store)
    await meters.acquire(0, ACCOUNT, WRITES)
    lease = await meters.acquire(1, ACCOUNT, WRITES)
    metering.orders.dead.append(wire.Holder(store=dead_end.name, epoch=dead))
    await asyncio.sleep(1.1)
    dead_end.cut()
    await store.effect(lease.epoch, row(8), lambda: None)
    meters.spent(lease)
    await asyncio.sleep(1)
    metering.orders.recalled.append(8)
    meters.hurry()
    await asyncio.sleep(0.3)
    assert 8 in [trim.lease_id for trim in metering.trimmed]
    assert metering.totals()[8].seq == 1
    meters.release(lease, 0)
    assert meters.take(1, ACCOUNT, WRITES) is None
    assert not meters._heartbeat.away


@in_virtual_time
async def test_every_lease_in_hand_is_shown_to_metering() -> None:
    metering = ScriptedMetering()
    metering.acquires.append(granted(7, 10))
    meters = await holding(metering, ScriptedStore())
    await meters.acquire(0, ACCOUNT, WRITES)
    await asyncio.sleep(1.1)
    assert list(metering.synced[-1].leases) == [7]
