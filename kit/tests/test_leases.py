"""Units in hand, and what is done when they run out."""

import asyncio

import pytest
from scripted import (
    ACCOUNT,
    DAY_MS,
    ScriptedMetering,
    ScriptedStore,
    granted,
    in_virtual_time,
    refusal,
    refused,
    sleep_through,
    unlimited,
    virtual_clock,
    waiting,
)

from tovuk.metering.v1 import metering_pb2 as wire
from tovuk_kit.errors import ServiceUnavailable
from tovuk_kit.leases import MeteringUnavailable, Meters, PaymentRequired, UsageCapReached, UsageSettling
from tovuk_kit.meters import MeterName
from tovuk_kit.usage import UNLIMITED, UsageRow

WRITES: MeterName = "kv_writes"
READS: MeterName = "kv_reads"
STORAGE: MeterName = "kv_storage_bytes"


async def holding(metering: ScriptedMetering, *stores: ScriptedStore) -> Meters:
    """A process at these stores whose first heartbeat has been answered, or at least sent."""
    meters = Meters(leases=metering, reports=metering, clock=virtual_clock())
    await meters.start(stores or (ScriptedStore(),))
    await asyncio.sleep(0.05)
    return meters


@in_virtual_time
async def test_units_in_hand_are_taken_without_asking() -> None:
    metering = ScriptedMetering()
    metering.acquires.append(granted(7, 3))
    meters = await holding(metering)
    lease = await meters.acquire(0, ACCOUNT, WRITES)
    assert meters.take(0, ACCOUNT, WRITES, 2) is lease
    assert meters.take(0, ACCOUNT, WRITES) is None
    assert len(metering.acquired) == 1


@in_virtual_time
async def test_released_units_may_be_taken_again() -> None:
    metering = ScriptedMetering()
    metering.acquires.append(granted(7, 1))
    meters = await holding(metering)
    lease = await meters.acquire(0, ACCOUNT, WRITES)
    assert meters.take(0, ACCOUNT, WRITES) is None
    meters.release(lease)
    assert meters.take(0, ACCOUNT, WRITES) is lease


@in_virtual_time
async def test_what_can_be_taken_at_once_is_told_without_asking() -> None:
    metering = ScriptedMetering()
    metering.acquires.append(granted(7, 5, ends_in_ms=1_000))
    meters = await holding(metering)
    assert meters.spare(0, ACCOUNT, WRITES) == 0
    lease = await meters.acquire(0, ACCOUNT, WRITES)
    assert meters.spare(0, ACCOUNT, WRITES) == 4
    assert meters.take(0, ACCOUNT, WRITES, 4) is lease
    assert meters.spare(0, ACCOUNT, WRITES) == 0
    meters.release(lease, 2)
    assert meters.spare(0, ACCOUNT, WRITES) == 2
    await asyncio.sleep(1)
    assert meters.spare(0, ACCOUNT, WRITES) == 0
    assert len(metering.acquired) == 1


@in_virtual_time
async def test_who_does_not_wait_is_told_at_once_that_units_may_come_back() -> None:
    metering = ScriptedMetering()
    metering.acquires.extend([waiting(200), granted(7, 1)])
    meters = await holding(metering)
    began = asyncio.get_running_loop().time()
    with pytest.raises(UsageSettling):
        await meters.acquire(0, ACCOUNT, WRITES, wait=False)
    assert asyncio.get_running_loop().time() - began < 0.1
    assert (await meters.acquire(0, ACCOUNT, WRITES, wait=False)).in_flight == 1


@in_virtual_time
async def test_after_a_lost_answer_the_same_version_is_asked_again() -> None:
    metering = ScriptedMetering()
    metering.acquires.extend([granted(7, 1), ServiceUnavailable(service="metering"), granted(7, 5, version=3)])
    meters = await holding(metering)
    await meters.acquire(0, ACCOUNT, WRITES)
    with pytest.raises(MeteringUnavailable):
        await meters.acquire(0, ACCOUNT, WRITES)
    await asyncio.sleep(0.6)
    await meters.acquire(0, ACCOUNT, WRITES)
    assert [(asked.lease_id, asked.version, asked.want) for asked in metering.acquired] == [
        (0, 0, 1),
        (7, 1, 1),
        (7, 1, 1),
    ]
    assert meters.take(0, ACCOUNT, WRITES, 3) is not None


@in_virtual_time
async def test_requests_that_lack_units_together_ask_one_after_the_other() -> None:
    metering = ScriptedMetering()
    metering.acquires.append(granted(7, 8))
    meters = await holding(metering)
    leases = await asyncio.gather(*(meters.acquire(0, ACCOUNT, WRITES) for _ in range(8)))
    assert len(set(leases)) == 1
    assert len(metering.acquired) == 1


@in_virtual_time
async def test_a_cancelled_request_leaves_nothing_reserved() -> None:
    metering = ScriptedMetering()
    metering.acquires.extend([granted(7, 1), granted(7, 1)])
    meters = await holding(metering)
    asking = asyncio.create_task(meters.acquire(0, ACCOUNT, WRITES))
    await asyncio.sleep(0.0005)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    lease = await meters.acquire(0, ACCOUNT, WRITES)
    assert lease.in_flight == 1


@in_virtual_time
async def test_units_that_do_not_come_back_in_time_are_settling() -> None:
    metering = ScriptedMetering()
    metering.acquires.extend([waiting(200)] * 50)
    meters = await holding(metering)
    began = asyncio.get_running_loop().time()
    with pytest.raises(UsageSettling):
        await meters.acquire(0, ACCOUNT, WRITES)
    assert 1.5 < asyncio.get_running_loop().time() - began <= 2.0


@in_virtual_time
async def test_the_next_day_is_charged_to_a_successor_and_the_old_lease_ends() -> None:
    metering, store = ScriptedMetering(), ScriptedStore()
    metering.acquires.extend([granted(7, 10, ends_in_ms=500), granted(8, 10)])
    meters = await holding(metering, store)
    old = await meters.acquire(0, ACCOUNT, WRITES)
    await store.effect(old.epoch, UsageRow(old.id, "service", "resource", 1), lambda: None)
    meters.spent(old)
    await asyncio.sleep(0.5)
    assert meters.take(0, ACCOUNT, WRITES) is None
    new = await meters.acquire(0, ACCOUNT, WRITES)
    assert (metering.acquired[1].lease_id, metering.acquired[1].version, new.id) == (0, 0, 8)
    await asyncio.sleep(0.5)
    assert (metering.totals()[7].final, metering.totals()[7].seq) == (True, 1)


@in_virtual_time
async def test_a_lease_that_is_ending_is_not_taken_up_again() -> None:
    metering = ScriptedMetering()
    metering.acquires.extend([granted(7, 10, ends_in_ms=500), granted(7, 10), granted(8, 10)])
    meters = await holding(metering)
    old = await meters.acquire(0, ACCOUNT, WRITES)
    # The heartbeat ends it; a unit in flight keeps it from its final report.
    await asyncio.sleep(2)
    assert old.closed
    new = await meters.acquire(0, ACCOUNT, WRITES)
    assert new.id == 8


@in_virtual_time
async def test_a_refusal_is_believed_for_half_a_second() -> None:
    metering = ScriptedMetering()
    metering.acquires.extend([refused(), granted(7, 1)])
    meters = await holding(metering)
    for _ in range(3):
        with pytest.raises(UsageCapReached):
            await meters.acquire(0, ACCOUNT, WRITES)
    assert len(metering.acquired) == 1
    await asyncio.sleep(0.51)
    await meters.acquire(0, ACCOUNT, WRITES)


@in_virtual_time
async def test_a_refusal_is_not_believed_past_the_end_of_its_window() -> None:
    metering = ScriptedMetering()
    metering.acquires.extend([refused(resets_in_ms=100), granted(7, 1)])
    meters = await holding(metering)
    with pytest.raises(UsageCapReached):
        await meters.acquire(0, ACCOUNT, WRITES)
    await asyncio.sleep(0.1)
    await meters.acquire(0, ACCOUNT, WRITES)


@in_virtual_time
async def test_a_refusal_is_forgotten_when_the_limits_change() -> None:
    metering = ScriptedMetering()
    metering.acquires.extend([refused(), granted(7, 1)])
    meters = await holding(metering)
    with pytest.raises(UsageCapReached):
        await meters.acquire(0, ACCOUNT, WRITES)
    meters.limits_changed("another account")
    with pytest.raises(UsageCapReached):
        await meters.acquire(0, ACCOUNT, WRITES)
    meters.limits_changed(ACCOUNT)
    await meters.acquire(0, ACCOUNT, WRITES)


@in_virtual_time
async def test_a_refusal_of_many_units_does_not_refuse_fewer() -> None:
    metering = ScriptedMetering()
    metering.acquires.extend([refused(), granted(7, 1)])
    meters = await holding(metering)
    for units in (30, 31):
        with pytest.raises(UsageCapReached):
            await meters.acquire(0, ACCOUNT, WRITES, units)
    assert len(metering.acquired) == 1
    await meters.acquire(0, ACCOUNT, WRITES, 1)


@in_virtual_time
async def test_a_plans_limit_asks_for_payment() -> None:
    metering = ScriptedMetering()
    metering.acquires.append(refused(plan="free"))
    meters = await holding(metering)
    with pytest.raises(PaymentRequired) as raised:
        await meters.acquire(0, ACCOUNT, WRITES)
    assert raised.value.params["plan"] == "free"
    assert raised.value.retry_after_ms == DAY_MS


@in_virtual_time
async def test_remembered_refusals_do_not_grow_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tovuk_kit.leases.REFUSALS_MAX", 10)
    metering = ScriptedMetering()
    metering.acquires.extend([refused()] * 25)
    meters = await holding(metering)
    for number in range(25):
        with pytest.raises(UsageCapReached):
            await meters.acquire(0, f"account-{number}", WRITES)
    assert len(meters._refusals) <= 10


@in_virtual_time
async def test_a_process_that_never_reached_metering_serves_nothing() -> None:
    metering = ScriptedMetering()
    metering.away = True
    meters = await holding(metering)
    with pytest.raises(MeteringUnavailable):
        await meters.acquire(0, ACCOUNT, WRITES)
    metering.away = False
    metering.acquires.append(granted(7, 1))
    await asyncio.sleep(1.1)
    await meters.acquire(0, ACCOUNT, WRITES)


@in_virtual_time
async def test_limited_units_are_used_without_metering_only_while_the_heartbeat_is_valid() -> None:
    metering = ScriptedMetering()
    metering.acquires.append(granted(7, 100))
    meters = await holding(metering)
    meters.spent(await meters.acquire(0, ACCOUNT, WRITES))
    metering.away = True
    for _ in range(15):
        await asyncio.sleep(0.1)
        lease = meters.take(0, ACCOUNT, WRITES)
        assert lease is not None
        meters.spent(lease)
    await asyncio.sleep(2)
    assert meters.take(0, ACCOUNT, WRITES) is None
    with pytest.raises(MeteringUnavailable):
        await meters.acquire(0, ACCOUNT, WRITES)


@in_virtual_time
async def test_what_no_limit_binds_goes_on_without_metering_idle_or_not() -> None:
    metering = ScriptedMetering()
    metering.acquires.append(unlimited(7))
    meters = await holding(metering)
    meters.spent(await meters.acquire(0, ACCOUNT, WRITES))
    metering.away = True
    for pause_s in (1, 3, 30, 120):
        await asyncio.sleep(pause_s)
        lease = meters.take(0, ACCOUNT, WRITES)
        assert lease is not None, f"after {pause_s} s"
        meters.spent(lease)


@in_virtual_time
async def test_what_no_limit_binds_goes_on_without_metering_past_the_end_of_its_day() -> None:
    metering = ScriptedMetering()
    metering.acquires.append(unlimited(7, ends_in_ms=5_000))
    meters = await holding(metering)
    meters.spent(await meters.acquire(0, ACCOUNT, WRITES))
    metering.away = True
    await asyncio.sleep(20)
    assert (await meters.acquire(0, ACCOUNT, WRITES)).id == 7
    metering.away = False
    metering.acquires.append(unlimited(8))
    await asyncio.sleep(6)
    assert (await meters.acquire(0, ACCOUNT, WRITES)).id == 8


@in_virtual_time
async def test_a_process_that_slept_through_its_validity_hears_metering_before_it_goes_on() -> None:
    metering = ScriptedMetering()
    metering.acquires.append(unlimited(7))
    meters = await holding(metering)
    meters.spent(await meters.acquire(0, ACCOUNT, WRITES))
    metering.away = True
    # Metering may have given it up meanwhile, and a cap been set.
    sleep_through(6)
    await asyncio.sleep(1)
    assert meters.take(0, ACCOUNT, WRITES) is None
    metering.away = False
    await asyncio.sleep(1.1)
    assert meters.take(0, ACCOUNT, WRITES) is not None


def room(version: int, size: int) -> wire.AllowReply:
    return wire.AllowReply(allowance=wire.Allowance(version=version, bytes=size))


@in_virtual_time
async def test_room_is_made_until_it_is_enough() -> None:
    metering, store = ScriptedMetering(), ScriptedStore()
    metering.allows.extend([room(4, 50), room(5, 200)])
    meters = await holding(metering, store)
    await meters.make_room(0, ACCOUNT, STORAGE, 120)
    assert [(asked.version, asked.allowance, asked.want_bytes) for asked in metering.allowed] == [
        (0, 0, 120),
        (4, 50, 120),
    ]
    assert (await store.level(ACCOUNT, STORAGE)).allowance == 200
    await meters.make_room(0, ACCOUNT, STORAGE, 200)
    assert len(metering.allowed) == 2


@in_virtual_time
async def test_room_that_no_limit_binds_is_without_end() -> None:
    metering, store = ScriptedMetering(), ScriptedStore()
    metering.allows.append(wire.AllowReply(allowance=wire.Allowance(version=1, unlimited=True)))
    meters = await holding(metering, store)
    await meters.make_room(0, ACCOUNT, STORAGE, 120)
    assert (await store.level(ACCOUNT, STORAGE)).allowance == UNLIMITED


@in_virtual_time
async def test_room_is_refused_waited_for_or_unknown() -> None:
    metering = ScriptedMetering()
    meters = await holding(metering)
    metering.allows.append(wire.AllowReply(refused=refusal(resets_in_ms=0)))
    with pytest.raises(UsageCapReached) as raised:
        await meters.make_room(0, ACCOUNT, STORAGE, 1)
    assert raised.value.retry_after_ms is None
    metering.allows.extend([wire.AllowReply(wait=wire.Wait(retry_after_ms=200))] * 30)
    with pytest.raises(UsageSettling):
        await meters.make_room(0, ACCOUNT, STORAGE, 1)
    metering.allows.clear()
    with pytest.raises(MeteringUnavailable):
        await meters.make_room(0, ACCOUNT, STORAGE, 1)


@in_virtual_time
async def test_an_effect_refused_by_a_fence_is_charged_to_a_new_epoch() -> None:
    metering, store = ScriptedMetering(), ScriptedStore()
    metering.acquires.extend([granted(7, 5), granted(8, 5)])
    meters = await holding(metering, store)
    old = await meters.acquire(0, ACCOUNT, WRITES)
    await store.fence(old.epoch)
    meters.release(old)
    await meters.fenced(0, old.epoch)
    assert meters.take(0, ACCOUNT, WRITES) is None
    new = await meters.acquire(0, ACCOUNT, WRITES)
    assert new.epoch > old.epoch
    await meters.fenced(0, old.epoch)
    assert meters.take(0, ACCOUNT, WRITES) is new, "news of the old epoch do not touch the new one"


@in_virtual_time
async def test_a_grant_that_comes_for_a_dead_epoch_is_not_used() -> None:
    metering, store = ScriptedMetering(), ScriptedStore()
    metering.acquires.extend([granted(7, 5), granted(8, 5)])
    meters = await holding(metering, store)
    answer = metering.acquire

    async def slow(request: wire.AcquireRequest) -> wire.AcquireReply:
        reply = await answer(request)
        await meters.fenced(0, first)
        return reply

    first = meters._holders[0].epoch
    metering.acquire = slow  # type: ignore[method-assign]
    lease = await meters.acquire(0, ACCOUNT, WRITES)
    assert lease.id == 8


@in_virtual_time
async def test_closing_reports_every_lease_as_final_once_nothing_is_in_flight() -> None:
    metering, store = ScriptedMetering(), ScriptedStore()
    metering.acquires.extend([granted(7, 5), granted(8, 5)])
    meters = await holding(metering, store)
    write = await meters.acquire(0, ACCOUNT, WRITES)
    read = await meters.acquire(0, ACCOUNT, READS)
    meters.count(read, "service", "resource")
    closing = asyncio.create_task(meters.close())
    await asyncio.sleep(0.5)
    assert not closing.done()
    assert not metering.totals()[7].final
    await store.effect(write.epoch, UsageRow(write.id, "service", "resource", 1), lambda: None)
    meters.spent(write)
    await closing
    assert {(t.lease_id, t.seq, t.final) for t in metering.totals().values()} == {(7, 1, True), (8, 1, True)}


@in_virtual_time
async def test_closing_loses_no_unit_that_is_on_its_way_to_the_store() -> None:
    metering, store = ScriptedMetering(), ScriptedStore()
    metering.acquires.append(granted(8, 5))
    meters = await holding(metering, store)
    read = await meters.acquire(0, ACCOUNT, READS)
    meters.count(read, "service", "resource")
    # In the middle of a flush: the units have left the buffer and are not in the store.
    while read.buffer:  # noqa: ASYNC110  # a flush tells nobody that it began
        await asyncio.sleep(0.0005)
    await meters.close()
    assert (metering.totals()[8].seq, metering.totals()[8].final) == (1, True)


@in_virtual_time
async def test_closing_is_bounded_when_a_unit_never_comes_back() -> None:
    metering = ScriptedMetering()
    metering.acquires.append(granted(7, 5))
    meters = await holding(metering)
    await meters.acquire(0, ACCOUNT, WRITES)
    async with asyncio.timeout(4):
        await meters.close()
    assert not metering.totals()[7].final
