"""Once at the threshold, once at the stop, for each limit and window."""

import json
from typing import Any

import pytest

from tovuk_kit.clock import FakeClock
from tovuk_metering.clients.reports import LevelTotals, Report
from tovuk_metering.meter import limiting, reports
from tovuk_metering.meter.turn import Turns
from tovuk_metering.store import notices
from tovuk_metering.store.caps import Cap

DAY_MS = 86_400_000


async def cap(turns: Turns, units: int, percent: int = 80, meter: str = "kv_writes") -> None:
    chosen = Cap(meter, "day", units, True, percent, 0)
    await turns.write(lambda turn: limiting.put_cap(turn, "account_1", chosen))


async def given(turns: Turns) -> list[tuple[str, str, int]]:
    found = await turns.read(lambda turn: notices.undelivered(turn.tx, 100))
    details = [json.loads(notice.details_json) for notice in found]
    return sorted((notice.kind, d["window"], d["limit"]) for notice, d in zip(found, details, strict=True))


@pytest.mark.proves("CAP-011")
async def test_the_owner_is_told_at_the_threshold_and_at_the_stop_once_a_window(
    turns: Turns, first: Any, clock: FakeClock
) -> None:
    await cap(turns, 10, percent=50)
    await first.acquire("kv_writes", want=10)
    await first.use("kv_writes", 4)
    assert await given(turns) == []
    await first.use("kv_writes", 1)
    notified = ("cap_notified", "2027-01-15", 10)
    assert await given(turns) == [notified]
    await first.use("kv_writes", 5)
    await first.acquire("kv_writes")
    stopped = ("cap_reached", "2027-01-15", 10)
    assert await given(turns) == [notified, stopped]
    await cap(turns, 10, percent=50)
    assert await given(turns) == [notified, stopped]
    clock.advance(DAY_MS)
    del first.held["kv_writes"]
    await first.beat()
    await first.acquire("kv_writes", want=5)
    await first.use("kv_writes", 5)
    assert await given(turns) == [notified, ("cap_notified", "2027-01-16", 10), stopped]


async def test_a_raised_cap_gives_its_own_notices_and_a_lowered_one_at_once(turns: Turns, first: Any) -> None:
    await first.acquire("kv_writes")
    await first.use("kv_writes", 9)
    await cap(turns, 100)
    assert await given(turns) == []
    await cap(turns, 10)
    assert await given(turns) == [("cap_notified", "2027-01-15", 10)]
    await cap(turns, 11)
    assert ("cap_notified", "2027-01-15", 11) in await given(turns)


async def test_a_plans_limit_gives_notice_at_eighty_percent(turns: Turns, first: Any) -> None:
    await turns.write(lambda turn: limiting.set_plan(turn, "account_1", "free", 2))
    await first.acquire("kv_writes", want=1_000)
    await first.use("kv_writes", 799)
    assert await given(turns) == []
    await first.use("kv_writes", 1)
    assert await given(turns) == [("plan_limit_notified", "2027-01-15", 1_000)]


async def test_a_level_gives_notice_of_its_bytes(turns: Turns, first: Any) -> None:
    await cap(turns, 100, meter="kv_storage_bytes")
    level = LevelTotals("account_1", "kv_storage_bytes", 1, 80, {("service_1", "kv_1"): 80})
    await turns.write(lambda turn: reports.apply(turn, [Report("kv/one/0", (), [level])]))
    assert await given(turns) == [("cap_notified", "2027-01-15", 100)]
