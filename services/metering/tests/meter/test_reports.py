"""Totals become bills, whatever order they come in."""

from typing import Any

from tovuk_kit.clock import FakeClock
from tovuk_metering.clients.reports import LeaseTotals, LevelTotals, Report
from tovuk_metering.meter import heartbeats, reports, usage
from tovuk_metering.meter.turn import Turns
from tovuk_metering.store import leases, ledger

GB = 1_000_000_000


async def apply(turns: Turns, *given: Report) -> None:
    await turns.write(lambda turn: reports.apply(turn, given))


async def billed(turns: Turns) -> dict[tuple[str, str, str], int]:
    lines = await turns.read(lambda turn: usage.breakdown_of(turn, "account_1"))
    return {(line.meter, line.service_id, line.resource_id): line.month_units for line in lines}


async def test_repeats_gaps_and_disorder_bill_each_unit_once(turns: Turns, first: Any) -> None:
    lease_id = (await first.acquire("kv_writes")).lease_id

    def said(a: int, b: int) -> Report:
        lines = {("service_1", "kv_a"): a, ("service_2", "kv_b"): b}
        return Report("kv/one/0", [LeaseTotals(lease_id, 1, a + b, False, lines)])

    await apply(turns, said(1, 0), said(5, 2), said(1, 0))
    await apply(turns, said(3, 1))
    await apply(turns, said(5, 3), said(5, 3))
    assert await billed(turns) == {("kv_writes", "service_1", "kv_a"): 5, ("kv_writes", "service_2", "kv_b"): 3}


async def test_a_report_of_another_store_or_epoch_is_ignored(turns: Turns, first: Any) -> None:
    lease_id = (await first.acquire("kv_writes")).lease_id
    lines = {("service_1", "kv_a"): 9}
    await apply(turns, Report("kv/two/0", [LeaseTotals(lease_id, 1, 9, False, lines)]))
    await apply(turns, Report("kv/one/0", [LeaseTotals(lease_id, 2, 9, False, lines)]))
    await apply(turns, Report("kv/one/0", [LeaseTotals(lease_id + 1, 1, 9, True, lines)]))
    assert await billed(turns) == {}


async def test_a_final_report_in_two_parts_closes_the_lease_with_the_second(turns: Turns, first: Any) -> None:
    lease_id = (await first.acquire("kv_writes")).lease_id
    for resource in ("kv_a", "kv_b"):
        assert await turns.read(lambda turn: leases.by_id(turn.tx, lease_id)) is not None
        await apply(turns, Report("kv/one/0", [LeaseTotals(lease_id, 1, 8, True, {("service_1", resource): 4})]))
    assert await turns.read(lambda turn: leases.by_id(turn.tx, lease_id)) is None
    assert sum((await billed(turns)).values()) == 8


async def test_marks_are_confirmed_once_they_are_applied(turns: Turns, first: Any) -> None:
    lease_id = (await first.acquire("kv_writes")).lease_id
    mark, last = heartbeats.LeaseMark(lease_id, 5, False), heartbeats.LeaseMark(lease_id, 5, True)
    unknown = heartbeats.LeaseMark(lease_id + 1, 7, True)
    assert (await first.beat(unconfirmed=[mark, last, unknown])).confirmed == [unknown]
    await first.use("kv_writes", 5)
    assert (await first.beat(unconfirmed=[mark, last])).confirmed == [mark]
    await first.use("kv_writes", 0, final=True)
    assert (await first.beat(unconfirmed=[mark, last])).confirmed == [mark, last]


async def test_levels_take_the_highest_sequence_and_are_confirmed(turns: Turns, first: Any) -> None:
    def said(seq: int, **sizes: int) -> Report:
        lines = {("service_1", resource): size for resource, size in sizes.items()}
        return Report("kv/one/0", (), [LevelTotals("account_1", "kv_storage_bytes", seq, sum(sizes.values()), lines)])

    mark = heartbeats.LevelMark("kv/one/0", "account_1", "kv_storage_bytes", 3)
    assert (await first.beat(unconfirmed_levels=[mark])).confirmed_levels == []
    await apply(turns, said(3, kv_a=10, kv_b=7), said(2, kv_a=99))
    assert await billed(turns) == {
        ("kv_storage_bytes", "service_1", "kv_a"): 10,
        ("kv_storage_bytes", "service_1", "kv_b"): 7,
    }
    await apply(turns, said(4, kv_a=10))
    assert await billed(turns) == {("kv_storage_bytes", "service_1", "kv_a"): 10}
    assert (await first.beat(unconfirmed_levels=[mark])).confirmed_levels == [mark]


async def test_bytes_are_billed_by_the_time_they_are_kept_over_midnights(
    turns: Turns, first: Any, clock: FakeClock
) -> None:
    def said(seq: int, size: int) -> Report:
        lines = {("service_1", "kv_a"): size}
        return Report("kv/one/0", (), [LevelTotals("account_1", "kv_storage_bytes", seq, size, lines)])

    hour = 3_600_000
    await apply(turns, said(1, 100 * GB))
    clock.advance(17 * hour)
    await apply(turns, said(2, 300 * GB))
    clock.advance(24 * hour)
    await apply(turns, said(3, 0))
    clock.advance(hour)
    entries = await turns.read(lambda turn: ledger.byte_time_of_month(turn.tx, "account_1", "2027-01"))
    assert [(entry.day, entry.units) for entry in entries] == [
        ("2027-01-15", 16 * hour * 100 * GB),
        ("2027-01-16", hour * 100 * GB + 23 * hour * 300 * GB),
        ("2027-01-17", hour * 300 * GB),
    ]
