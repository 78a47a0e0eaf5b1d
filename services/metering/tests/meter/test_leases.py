"""Count leases over both engines, driven by hand."""

from typing import Any

import pytest

from tovuk_kit.clock import FakeClock
from tovuk_kit.errors import ServiceUnavailable
from tovuk_metering.limits import HOLDER_GIVEN_UP_MS, LEASE_UNSEEN_MS
from tovuk_metering.meter import heartbeats, leases, limiting
from tovuk_metering.meter.bounds import Refused, Wait
from tovuk_metering.meter.turn import Turns
from tovuk_metering.store import windows
from tovuk_metering.store.caps import Cap
from tovuk_metering.store.holders import Holder

DAY_MS = 86_400_000


async def cap(turns: Turns, units: int, meter: str = "kv_writes", period: str = "day", *, hard: bool = True) -> None:
    chosen = Cap(meter, period, units, hard, 80, 0)  # type: ignore[arg-type]
    await turns.write(lambda turn: limiting.put_cap(turn, "account_1", chosen))


async def tally(turns: Turns, meter: str, start: str) -> windows.Tally:
    return await turns.read(lambda turn: windows.tally(turn.tx, "account_1", meter, start))


async def test_without_a_limit_a_lease_is_unlimited(first: Any) -> None:
    state = await first.acquire("kv_writes")
    assert (state.unlimited, state.day) == (True, "2027-01-15")


async def test_a_repeat_after_a_lost_answer_gets_the_same_units(turns: Turns, first: Any) -> None:
    await cap(turns, 100)
    ask = leases.Ask(first.holder, "account_1", "kv_writes", 0, 0, 1)
    states = [await turns.write(lambda turn: leases.acquire(turn, ask)) for _ in range(3)]
    assert states[0].granted == 25
    assert states[1:] == [states[0]] * 2


async def test_a_late_copy_of_a_request_changes_nothing(turns: Turns, first: Any) -> None:
    await cap(turns, 100)
    old = await first.acquire("kv_writes")
    new = await first.acquire("kv_writes", want=10)
    ask = leases.Ask(first.holder, "account_1", "kv_writes", old.lease_id, old.version, 10)
    assert await turns.write(lambda turn: leases.acquire(turn, ask)) == new
    late = await turns.write(lambda turn: leases.trim(turn, first.holder, old.lease_id, old.version, 0))
    assert late == new


async def test_a_late_trim_does_not_bind_a_lease_that_went_on_without_limit(turns: Turns, first: Any) -> None:
    old = await first.acquire("kv_writes")
    new = await first.acquire("kv_writes")
    late = await turns.write(lambda turn: leases.trim(turn, first.holder, old.lease_id, old.version, 0))
    assert late == new
    assert late.unlimited


async def test_an_ended_lease_is_not_handed_out_again(turns: Turns, first: Any) -> None:
    await cap(turns, 100)
    await first.acquire("kv_writes")
    await first.use("kv_writes", 1)
    ended = first.held.pop("kv_writes")
    assert isinstance(await first.acquire("kv_writes"), Wait)
    first.held["kv_writes"] = ended
    await first.use("kv_writes", 1, final=True)
    del first.held["kv_writes"]
    assert (await first.acquire("kv_writes")).lease_id != ended.lease_id


async def test_shares_shrink_with_what_is_free_and_with_the_holders(turns: Turns, first: Any, second: Any) -> None:
    await cap(turns, 80)
    assert (await first.acquire("kv_writes")).granted == 10
    assert (await second.acquire("kv_writes")).granted == 70 // 8
    assert (await first.acquire("kv_writes", want=30)).granted == 40


async def test_units_others_hold_are_asked_back_before_anyone_is_refused(
    turns: Turns, first: Any, second: Any, told: Any
) -> None:
    await cap(turns, 3)
    await first.acquire("kv_writes", want=3)
    told.clear()
    assert isinstance(await second.acquire("kv_writes"), Wait)
    assert told == ["tovuk.metering.sync"]
    assert (await first.beat()).recalled == [first.held["kv_writes"].lease_id]
    await first.use("kv_writes", 2)
    assert (await first.trim("kv_writes")).granted == 2
    assert (await second.acquire("kv_writes")).granted == 1
    await second.use("kv_writes", 1)
    assert isinstance(await second.acquire("kv_writes"), Refused)


async def test_a_bulk_larger_than_what_is_left_is_refused_once_idle_units_are_back(turns: Turns, first: Any) -> None:
    await cap(turns, 100)
    await first.acquire("kv_writes", want=100)
    await first.use("kv_writes", 70)
    # Fifty are wanted, thirty of them are in hand.
    assert isinstance(await first.acquire("kv_writes", want=20), Wait)
    assert (await first.beat()).recalled
    await first.trim("kv_writes")
    assert isinstance(await first.acquire("kv_writes", want=50), Refused)


async def test_day_and_month_bind_together_and_the_later_end_is_named(turns: Turns, first: Any) -> None:
    await cap(turns, 5, period="day")
    await cap(turns, 5, period="month")
    await first.acquire("kv_writes", want=5)
    await first.use("kv_writes", 5)
    refused = await first.acquire("kv_writes")
    assert (refused.bound.period, refused.resets_in_ms) == ("month", (17 * 24 - 8) * 3_600_000)


async def test_a_new_day_has_its_own_units_within_the_month(turns: Turns, first: Any, clock: FakeClock) -> None:
    await cap(turns, 5, period="day")
    await cap(turns, 8, period="month")
    await first.acquire("kv_writes", want=5)
    await first.use("kv_writes", 5, final=True)
    del first.held["kv_writes"]
    clock.advance(DAY_MS)
    await first.beat()
    assert (await first.acquire("kv_writes", want=3)).day == "2027-01-16"
    await first.use("kv_writes", 3)
    refused = await first.acquire("kv_writes")
    assert (refused.bound.period, refused.bound.units) == ("month", 8)
    assert await tally(turns, "kv_writes", "2027-01-16") == windows.Tally(3, 0)
    assert await tally(turns, "kv_writes", "2027-01") == windows.Tally(8, 0)


async def test_a_lease_of_yesterday_has_ended(turns: Turns, first: Any, clock: FakeClock) -> None:
    await cap(turns, 5)
    before = await first.acquire("kv_writes")
    clock.advance(DAY_MS)
    after = await first.acquire("kv_writes")
    assert (after.lease_id, after.ends_in_ms, after.granted) == (before.lease_id, 0, before.granted)


async def test_the_plans_limit_is_named_before_an_own_cap(turns: Turns, first: Any) -> None:
    await turns.write(lambda turn: limiting.set_plan(turn, "account_1", "free", 2))
    await cap(turns, 1_000)
    refused = await first.acquire("kv_writes", want=1_001)
    assert (refused.bound.plan, refused.bound.units) == ("free", 1_000)
    await cap(turns, 900)
    refused = await first.acquire("kv_writes", want=901)
    assert (refused.bound.plan, refused.bound.units) == (None, 900)


async def test_a_cap_that_only_gives_notice_refuses_nothing(turns: Turns, first: Any) -> None:
    await cap(turns, 1, hard=False)
    assert (await first.acquire("kv_writes", want=5)).unlimited


async def test_a_recalled_lease_without_limit_is_exchanged_for_what_is_used(turns: Turns, first: Any) -> None:
    await first.acquire("kv_writes")
    await first.use("kv_writes", 4)
    await cap(turns, 10)
    assert isinstance(await first.acquire("kv_writes"), Wait)
    state = await first.trim("kv_writes")
    assert (state.unlimited, state.granted) == (False, 4)
    assert (await first.acquire("kv_writes")).granted == 4 + 6 // 4


async def test_a_cap_of_zero_refuses_the_first_unit(turns: Turns, first: Any) -> None:
    await cap(turns, 0)
    assert isinstance(await first.acquire("kv_writes"), Refused)


async def test_a_dead_holders_reads_are_burnt_and_its_writes_are_free_again(
    turns: Turns, first: Any, clock: FakeClock
) -> None:
    await cap(turns, 10, "kv_reads")
    await cap(turns, 10, "kv_writes")
    for meter in ("kv_reads", "kv_writes"):
        await first.acquire(meter, want=8)
        await first.use(meter, 3)
    heir = type(first)(turns, Holder(first.holder.store, 2))
    await heir.beat()
    clock.advance(HOLDER_GIVEN_UP_MS)
    await heir.beat()
    gone = await turns.read(heartbeats.lapsed)
    assert gone == [first.holder]
    await turns.write(lambda turn: heartbeats.give_up(turn, gone))
    assert (await heir.beat()).dead == [first.holder]
    assert (await first.beat()).lost == [first.holder]
    assert isinstance(await heir.acquire("kv_reads", want=5), Wait)
    assert not (await heir.beat(buried=[first.holder])).dead
    assert await tally(turns, "kv_reads", "2027-01-15") == windows.Tally(3, 5)
    assert await tally(turns, "kv_writes", "2027-01-15") == windows.Tally(3, 0)
    assert isinstance(await heir.acquire("kv_reads", want=3), Refused)
    assert (await heir.acquire("kv_writes", want=7)).granted == 7
    late = first.held["kv_writes"]
    assert (await first.trim("kv_writes")) == leases.State(late.lease_id, closed=True)


async def test_an_exclusive_holder_ends_all_older_ones_at_once(turns: Turns, first: Any) -> None:
    heir = type(first)(turns, Holder(first.holder.store, 2))
    assert (await heir.beat(exclusive=True)).dead == [first.holder]
    stale = type(first)(turns, Holder(first.holder.store, 0))
    assert (await stale.beat(exclusive=True)).lost == [stale.holder]
    assert not (await heir.beat(exclusive=True)).lost


async def test_a_restart_of_metering_gives_silent_holders_a_fresh_grace(
    turns: Turns, first: Any, clock: FakeClock
) -> None:
    clock.advance(HOLDER_GIVEN_UP_MS - 1)
    await turns.begin()
    clock.advance(HOLDER_GIVEN_UP_MS - 1)
    assert await turns.read(heartbeats.lapsed) == []
    clock.advance(1)
    assert await turns.read(heartbeats.lapsed) == [first.holder]


async def test_a_wall_clock_that_jumps_gives_nobody_up(turns: Turns, first: Any, clock: FakeClock) -> None:
    clock.skew(DAY_MS)
    assert await turns.read(heartbeats.lapsed) == []


async def test_a_lease_whose_grant_was_lost_is_taken_back(turns: Turns, first: Any, clock: FakeClock) -> None:
    await cap(turns, 10)
    await first.acquire("kv_writes", want=10)
    await first.acquire("kv_reads")
    del first.held["kv_writes"]
    clock.advance(LEASE_UNSEEN_MS - 1)
    await first.beat()
    assert (await turns.read(lambda turn: leases.leases.of_holder(turn.tx, first.holder))) != []
    clock.advance(1)
    await first.beat()
    left = await turns.read(lambda turn: leases.leases.of_holder(turn.tx, first.holder))
    assert [lease.meter for lease in left] == ["kv_reads"]
    # A late heartbeat from before the grant takes nothing that its holder has shown to know.
    del first.held["kv_reads"]
    await first.beat()
    left = await turns.read(lambda turn: leases.leases.of_holder(turn.tx, first.holder))
    assert [lease.meter for lease in left] == ["kv_reads"]


async def test_a_process_that_was_replaced_answers_nothing(
    turns: Turns, first: Any, database: Any, book: Any, clock: Any
) -> None:
    newer = Turns(database, clock, book, lambda _: None)
    await newer.begin()
    assert not await turns.is_serving()
    with pytest.raises(ServiceUnavailable):
        await first.acquire("kv_writes")
    with pytest.raises(ServiceUnavailable):
        await first.beat()
