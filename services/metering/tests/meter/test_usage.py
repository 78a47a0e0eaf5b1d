"""What people see of what happened."""

from typing import Any

from tovuk_kit.clock import FakeClock
from tovuk_metering.clients.reports import LevelTotals, Report
from tovuk_metering.limits import HOLDER_GIVEN_UP_MS
from tovuk_metering.meter import heartbeats, limiting, reports, usage
from tovuk_metering.meter.turn import Turns
from tovuk_metering.store.caps import Cap

GB = 1_000_000_000


async def cap(turns: Turns, units: int, meter: str, period: str = "day") -> None:
    chosen = Cap(meter, period, units, True, 80, 0)  # type: ignore[arg-type]
    await turns.write(lambda turn: limiting.put_cap(turn, "account_1", chosen))


async def usage_of(turns: Turns) -> usage.Usage:
    return await turns.read(lambda turn: usage.usage_of(turn, "account_1"))


async def test_used_reserved_and_remaining_add_up_to_the_cap(turns: Turns, first: Any) -> None:
    await cap(turns, 100, "kv_reads")
    await first.acquire("kv_reads", want=40)
    await first.use("kv_reads", 15)
    found = await usage_of(turns)
    assert (found.day["kv_reads"], found.month["kv_reads"]) == (15, 15)
    standing = found.caps[0].standing
    assert (standing.used, standing.reserved, standing.burnt, standing.remaining) == (15, 25, 0, 60)
    assert standing.resets_at_ms == 1_800_000_000_000 + 16 * 3_600_000


async def test_what_is_burnt_is_shown_apart_and_not_billed(turns: Turns, first: Any, clock: FakeClock) -> None:
    await cap(turns, 100, "kv_reads")
    await first.acquire("kv_reads", want=40)
    await first.use("kv_reads", 15)
    heir = type(first)(turns, type(first.holder)(first.holder.store, 2))
    await heir.beat(exclusive=True)
    await heir.beat(buried=[first.holder])
    found = await usage_of(turns)
    standing = found.caps[0].standing
    assert (standing.used, standing.reserved, standing.burnt, standing.remaining) == (15, 0, 25, 60)
    assert found.month["kv_reads"] == 15


async def test_the_lowest_limit_of_a_period_binds_and_the_plans_among_equals(turns: Turns, first: Any) -> None:
    await turns.write(lambda turn: limiting.set_plan(turn, "account_1", "free", 2))
    await cap(turns, 1_000, "kv_writes")
    await cap(turns, 7, "kv_deletes")
    bound = {w.bound.meter: w.bound for w in (await usage_of(turns)).windows}
    assert (bound["kv_writes"].plan, bound["kv_writes"].units) == ("free", 1_000)
    assert (bound["kv_deletes"].plan, bound["kv_deletes"].units) == (None, 7)


async def test_storage_is_estimated_by_what_was_kept_so_far(turns: Turns, first: Any, clock: FakeClock) -> None:
    level = LevelTotals("account_1", "kv_storage_bytes", 1, 31 * GB, {("service_1", "kv_1"): 31 * GB})
    await turns.write(lambda turn: reports.apply(turn, [Report("kv/one/0", (), [level])]))
    clock.advance(2 * 86_400_000)
    await first.beat()
    found = await usage_of(turns)
    assert (found.day["kv_storage_bytes"], found.month["kv_storage_bytes"]) == (31 * GB, 31 * GB)
    line = next(line for line in found.estimate["lineItems"] if line["meter"] == "kv_storage_bytes")
    assert (line["usedUnits"], line["billableUnits"], line["amountUsdMicros"]) == (2 * GB, GB, 500_000)


async def test_figures_are_delayed_while_a_holder_is_behind_or_silent(
    turns: Turns, first: Any, clock: FakeClock
) -> None:
    await first.acquire("kv_writes")
    assert not (await usage_of(turns)).delayed
    await first.beat(behind_ms=2_001)
    found = await usage_of(turns)
    assert (found.delayed, found.as_of_ms) == (True, clock.wall_ms() - 2_001)
    await first.beat()
    assert not (await usage_of(turns)).delayed
    clock.advance(HOLDER_GIVEN_UP_MS)
    assert (await usage_of(turns)).delayed
    gone = await turns.read(heartbeats.lapsed)
    await turns.write(lambda turn: heartbeats.give_up(turn, gone))
    assert (await usage_of(turns)).delayed


async def test_the_breakdown_names_services_and_resources(turns: Turns, first: Any, clock: FakeClock) -> None:
    await first.acquire("kv_writes")
    await first.use("kv_writes", 3, final=True)
    clock.advance(86_400_000)
    await first.beat()
    del first.held["kv_writes"]
    await first.acquire("kv_writes")
    await first.use("kv_writes", 4)
    lines = await turns.read(lambda turn: usage.breakdown_of(turn, "account_1"))
    assert lines == [usage.BreakdownLine("kv_writes", "service_1", "kv_1", 4, 7)]
