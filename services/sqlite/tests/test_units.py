"""Units of a run: taken from what is in hand, asked for when that is not enough, and all given back."""

import asyncio
from typing import Any

import pytest
from scripted import ACCOUNT, ScriptedMetering, ScriptedStore, granted, in_virtual_time, refused, virtual_clock, waiting

from tovuk_kit.leases import Meters, UsageCapReached, UsageSettling
from tovuk_sqlite.limits import FIRST_UNIT_ENTRIES
from tovuk_sqlite.store.base import Charge, Database
from tovuk_sqlite.units import Units

METER = "sqlite_rows_written"
DATABASE = Database("sqlite_1", "DB", "service", ACCOUNT, 0)


async def units_over(*answers: Any, waits: bool = False) -> tuple[Units, Meters, ScriptedMetering]:
    metering = ScriptedMetering()
    metering.acquires.extend(answers)
    meters = Meters(leases=metering, reports=metering, clock=virtual_clock())
    await meters.start([ScriptedStore()])
    return Units(meters, ACCOUNT, METER, waits=waits), meters, metering


@in_virtual_time
async def test_a_run_begins_with_what_a_common_one_needs() -> None:
    units, meters, _ = await units_over(granted(7, 5 * FIRST_UNIT_ENTRIES))
    await units.begin()
    assert units.held == 1
    units.give_back()
    await units.begin()
    assert units.held == FIRST_UNIT_ENTRIES
    units.give_back()
    assert meters.spare(0, ACCOUNT, METER) == 5 * FIRST_UNIT_ENTRIES


@in_virtual_time
async def test_near_a_cap_a_run_begins_with_what_is_left() -> None:
    units, meters, _ = await units_over(granted(7, 10))
    await units.begin()
    units.give_back()
    await units.begin()
    assert (units.held, meters.spare(0, ACCOUNT, METER)) == (10, 0)


@in_virtual_time
async def test_a_run_extends_itself_from_what_is_in_hand_and_then_asks() -> None:
    units, _, metering = await units_over(granted(7, 3), granted(7, 40, version=2))
    await units.begin()
    assert await units.extend(1) == 2
    assert len(metering.acquired) == 1
    assert await units.extend(3) > 0
    assert len(metering.acquired) == 2
    assert units.held > 3


@in_virtual_time
async def test_the_end_of_a_cap_is_told_by_its_refusal() -> None:
    units, _, _ = await units_over(granted(7, 1), refused(), refused())
    await units.begin()
    assert await units.extend(1) == 0
    assert isinstance(units.refusal, UsageCapReached)


@in_virtual_time
async def test_one_that_does_not_wait_is_told_that_units_may_come_back() -> None:
    units, _, _ = await units_over(granted(7, 1), *[waiting(100)] * 9)
    await units.begin()
    assert await units.extend(1) == 0
    assert isinstance(units.refusal, UsageSettling)


@in_virtual_time
async def test_what_is_in_hand_is_taken_at_once_or_not_at_all() -> None:
    units, meters, metering = await units_over(granted(7, 5))
    assert not units.begin_at_once(1)
    await units.begin()
    units.give_back()
    assert not units.begin_at_once(6)
    assert units.begin_at_once(5)
    assert (units.held, meters.spare(0, ACCOUNT, METER), len(metering.acquired)) == (5, 0, 1)


@in_virtual_time
async def test_what_was_used_is_charged_and_the_rest_goes_back() -> None:
    units, meters, _ = await units_over(granted(7, 10))
    await units.begin()
    await units.extend(5)
    assert units.charges("store", 4) == [Charge("store", 1, 7, 4)]
    units.spend(4)
    assert meters.spare(0, ACCOUNT, METER) == 6
    await units.begin()
    units.count(DATABASE, 1)
    assert meters.spare(0, ACCOUNT, METER) == 5


@in_virtual_time
async def test_nothing_is_charged_twice_over_leases_of_two_days() -> None:
    units, _, _ = await units_over(granted(7, 3, ends_in_ms=500), granted(8, 10))
    await units.begin()
    await units.extend(1)
    await asyncio.sleep(1)
    assert await units.extend(3) > 0
    assert units.charges("store", 5) == [Charge("store", 1, 7, 3), Charge("store", 1, 8, 2)]
    assert units.epochs == {1}


@pytest.mark.parametrize("used", [0, 3])
def test_the_ends_of_units_leave_none_held(used: int) -> None:
    @in_virtual_time
    async def ends() -> None:
        units, _, _ = await units_over(granted(7, 3))
        await units.begin()
        await units.extend(3)
        units.spend(used)
        assert units.held == 0

    ends()
