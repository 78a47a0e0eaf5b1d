"""When a cap is in force, and what a plan changes."""

import asyncio
from typing import Any

import pytest

from tovuk_kit.clock import FakeClock
from tovuk_metering.errors import CapNotSettled
from tovuk_metering.limits import HOLDER_GIVEN_UP_MS
from tovuk_metering.meter import heartbeats, limiting
from tovuk_metering.meter.bounds import Refused
from tovuk_metering.meter.turn import Turns
from tovuk_metering.store import caps


def settle(turns: Turns, units: int, meter: str = "kv_writes") -> "asyncio.Task[caps.Cap]":
    return asyncio.create_task(
        limiting.settle_cap(turns, "account_1", meter, "day", units, hard_stop=True, notify_at_percent=80)
    )


async def test_a_cap_is_answered_once_every_holder_has_exchanged_its_lease(turns: Turns, first: Any, told: Any) -> None:
    await first.acquire("kv_writes")
    await first.use("kv_writes", 6)
    told.clear()
    setting = settle(turns, 10)
    while set(told) != {"tovuk.metering.sync", "tovuk.changed.caps.account_1"}:  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    assert not setting.done()
    assert (await first.beat()).recalled == [first.held["kv_writes"].lease_id]
    await first.trim("kv_writes")
    assert (await setting).units == 10
    assert (await first.acquire("kv_writes", want=4)).granted == 10


async def test_a_holder_given_up_is_waited_for_until_it_is_buried_where_another_lives(
    turns: Turns, first: Any, neighbour: Any, clock: FakeClock
) -> None:
    await first.acquire("kv_writes")
    setting = settle(turns, 10)
    clock.advance(HOLDER_GIVEN_UP_MS - 1)
    await neighbour.beat()
    clock.advance(1)
    gone = await turns.read(heartbeats.lapsed)
    await turns.write(lambda turn: heartbeats.give_up(turn, gone))
    assert (await neighbour.beat()).dead == [first.holder]
    await asyncio.sleep(0.1)
    # It may wake before its neighbour has fenced it, and finish what it was about.
    assert not setting.done()
    await neighbour.beat(buried=[first.holder])
    assert (await setting).units == 10


async def test_a_holder_given_up_where_nobody_lives_is_not_waited_for(
    turns: Turns, first: Any, clock: FakeClock
) -> None:
    await first.acquire("kv_writes")
    setting = settle(turns, 10)
    clock.advance(HOLDER_GIVEN_UP_MS)
    gone = await turns.read(heartbeats.lapsed)
    await turns.write(lambda turn: heartbeats.give_up(turn, gone))
    assert (await setting).units == 10


async def test_a_cap_nobody_has_to_answer_is_in_force_at_once(turns: Turns, first: Any) -> None:
    await first.acquire("kv_writes")
    await first.use("kv_writes", 1, final=True)
    assert (await settle(turns, 10)).units == 10
    assert (await settle(turns, 20)).units == 20


async def test_a_cap_a_live_holder_does_not_answer_is_stored_and_said_to_be_unsettled(
    turns: Turns, first: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limiting, "CAP_SETTLES_MS", 50)
    await first.acquire("kv_writes")
    with pytest.raises(CapNotSettled):
        await settle(turns, 10)
    assert [cap.units for cap in await turns.read(lambda turn: caps.of_account(turn.tx, "account_1"))] == [10]


async def test_a_smaller_plan_takes_leases_back(turns: Turns, first: Any) -> None:
    await first.acquire("kv_writes")
    await turns.write(lambda turn: limiting.set_plan(turn, "account_1", "free", 2))
    assert (await first.beat()).recalled
    await first.trim("kv_writes")
    refused = await first.acquire("kv_writes", want=1_001)
    assert isinstance(refused, Refused)
    await turns.write(lambda turn: limiting.set_plan(turn, "account_1", "pro", 3))
    assert (await first.acquire("kv_writes")).unlimited
