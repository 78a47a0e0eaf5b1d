"""Setting and lifting limits: an account's own caps, and its plan. Source: metering.md 7; contract.md 3.10."""

import asyncio
from dataclasses import dataclass

from tovuk_kit.errors import Outcome
from tovuk_kit.meters import METER_NAMES, METERS, PERIODS, UNITS_MAX, Counting, Period
from tovuk_metering.errors import (
    CapNotFound,
    CapNotSettled,
    InvalidCapValue,
    InvalidMetric,
    InvalidNotifyThreshold,
    InvalidPeriod,
    InvalidPlan,
)
from tovuk_metering.limits import CAP_LOOKS_MS, CAP_SETTLES_MS
from tovuk_metering.meter import leases as lease_protocol
from tovuk_metering.meter import levels as level_protocol
from tovuk_metering.meter import notices
from tovuk_metering.meter.turn import Turn, Turns
from tovuk_metering.store import accounts, caps, holders, leases, levels
from tovuk_metering.store.caps import Cap
from tovuk_metering.store.leases import Lease
from tovuk_metering.store.levels import Level


@dataclass(frozen=True, slots=True)
class Recalled:
    """What was asked back when a limit was set, each as it then was."""

    leases: tuple[Lease, ...]
    levels: tuple[Level, ...]


def check_metric(metric: str) -> None:
    """Raises InvalidMetric."""
    if metric not in METERS:
        raise InvalidMetric(metric=metric)


def check_period(period: str) -> Period:
    """Raises InvalidPeriod."""
    for known in PERIODS:
        if period == known:
            return known
    raise InvalidPeriod


def checked_cap(
    metric: str, period: str, units: int, hard_stop: bool, notify_at_percent: int, updated_at_ms: int
) -> Cap:
    """A cap that may be set. Raises InvalidMetric, InvalidPeriod, InvalidCapValue, InvalidNotifyThreshold."""
    check_metric(metric)
    found = check_period(period)
    if not 0 <= units <= UNITS_MAX:
        raise InvalidCapValue
    if not 1 <= notify_at_percent <= 100:
        raise InvalidNotifyThreshold
    return Cap(metric, found, units, hard_stop, notify_at_percent, updated_at_ms)


def put_cap(turn: Turn, account_id: str, cap: Cap) -> Recalled:
    """Set a cap and ask back what might break it; it is in force once `is_settled`. Raises ServiceUnavailable."""
    turn.lock(account_id)
    caps.put(turn.tx, account_id, cap)
    notices.look(turn, account_id, cap.meter)
    turn.caps_changed(account_id)
    return _recall(turn, account_id, cap.meter)


async def settle_cap(
    turns: Turns,
    account_id: str,
    metric: str,
    period: str,
    units: int,
    *,
    hard_stop: bool,
    notify_at_percent: int,
) -> Cap:
    """Set a cap; on return it is in force. Raises as `checked_cap` and `put_cap`, and CapNotSettled."""

    def put(turn: Turn) -> tuple[Cap, Recalled]:
        cap = checked_cap(metric, period, units, hard_stop, notify_at_percent, turn.now_ms)
        return cap, put_cap(turn, account_id, cap)

    cap, asked = await turns.write(put)
    try:
        async with asyncio.timeout(CAP_SETTLES_MS / 1000):
            # Holders answer to the database, which another process may even serve by then: looking is what is left.
            while not await turns.read(lambda turn: is_settled(turn, asked)):  # noqa: ASYNC110
                await asyncio.sleep(CAP_LOOKS_MS / 1000)
    except TimeoutError:
        raise CapNotSettled(outcome=Outcome.DONE, retry_after_ms=1_000) from None
    return cap


def delete_cap(turn: Turn, account_id: str, metric: str, period: str) -> None:
    """Lift a cap. Raises InvalidMetric, InvalidPeriod, CapNotFound."""
    check_metric(metric)
    check_period(period)
    turn.lock(account_id)
    if not caps.delete(turn.tx, account_id, metric, period):
        raise CapNotFound(metric=metric, period=period)
    turn.caps_changed(account_id)
    turn.hurry()


def set_plan(turn: Turn, account_id: str, plan: str, revision: int) -> None:
    """Take over the account's plan unless a revision as high is known. Raises InvalidPlan."""
    if plan not in turn.book.plans:
        raise InvalidPlan
    turn.lock(account_id)
    if accounts.set_plan(turn.tx, account_id, plan, revision):
        for meter in METER_NAMES:
            _recall(turn, account_id, meter)
            notices.look(turn, account_id, meter)
        turn.caps_changed(account_id)


def is_settled(turn: Turn, asked: Recalled) -> bool:
    """Whether what was asked for is given back, exchanged or buried; a store nobody lives at is not waited for.

    Where somebody lives, a holder that was only given up does not count: it may stand still in the middle of an effect
    and finish it on waking, until the living have fenced it. The effects of a level meet the store's own allowance,
    which the living have lowered.
    """
    for before in asked.leases:
        now = leases.by_id(turn.tx, before.lease_id)
        given_back = now is None or now.version != before.version
        if not given_back and holders.in_state(turn.tx, "live", {before.holder.store}):
            return False
    for level in asked.levels:
        left = levels.get(turn.tx, level.account_id, level.meter, level.store)
        given_back = left is None or left.trimmed_at_ms != level.trimmed_at_ms
        if not given_back and holders.in_state(turn.tx, "live", {level.store}):
            return False
    return True


def _recall(turn: Turn, account_id: str, meter: str) -> Recalled:
    turn.hurry()
    if METERS[meter].counting is Counting.LEVEL:
        return Recalled((), tuple(level_protocol.recall_for_limits(turn, account_id, meter)))
    return Recalled(tuple(lease_protocol.recall_for_limits(turn, account_id, meter)), ())
