"""The limits that bind an account's meter: the plan's and its own caps, together."""

from collections.abc import Iterable
from dataclasses import dataclass

from tovuk_kit.errors import ServiceUnavailable
from tovuk_kit.meters import METERS, Counting, Period
from tovuk_metering.limits import PLAN_NOTIFY_PERCENT, WAIT_MAX_MS, WAIT_MIN_MS
from tovuk_metering.meter.calendar import ends_ms, window_of
from tovuk_metering.meter.turn import Turn
from tovuk_metering.store import accounts, caps


@dataclass(frozen=True, slots=True)
class Bound:
    """One limit over the current window of its period."""

    meter: str
    period: Period
    window: str
    units: int
    #: The plan whose limit it is; None for an own cap.
    plan: str | None
    #: Whether it refuses; a cap may only give notice.
    hard: bool
    notify_at_percent: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Units may come back from other holders: ask again."""

    retry_after_ms: int


@dataclass(frozen=True, slots=True)
class Refused:
    """No unit is left with anyone, because of this limit."""

    bound: Bound
    #: 0 for a level, whose window has no end.
    resets_in_ms: int


def is_known(turn: Turn, account_id: str) -> bool:
    """Whether control has told the account's plan."""
    return accounts.plan_of(turn.tx, account_id) is not None


def bounds_of(turn: Turn, account_id: str, meter: str | None = None) -> list[Bound]:
    """The limits of one meter, or of all. Raises ServiceUnavailable while control has not told the account's plan."""
    plan = accounts.plan_of(turn.tx, account_id)
    if plan is None:
        raise ServiceUnavailable(service="metering", retry_after_ms=1_000)
    found = [
        Bound(
            limit.meter,
            limit.period,
            window_of(turn.now_ms, limit.period),
            limit.units,
            plan,
            True,
            PLAN_NOTIFY_PERCENT,
        )
        for limit in turn.book.plan(plan).meter_limits
    ] + [
        Bound(
            cap.meter,
            cap.period,
            window_of(turn.now_ms, cap.period),
            cap.units,
            None,
            cap.hard_stop,
            cap.notify_at_percent,
        )
        for cap in caps.of_account(turn.tx, account_id)
    ]
    return [bound for bound in found if meter is None or bound.meter == meter]


def hard_bounds(turn: Turn, account_id: str, meter: str) -> list[Bound]:
    """The limits of a meter that refuse."""
    return [bound for bound in bounds_of(turn, account_id, meter) if bound.hard]


def refusal(turn: Turn, binding: Iterable[Bound]) -> Refused:
    """Name one of the limits that bind: the plan's before an own cap, the one that ends later before the other."""
    bound = max(binding, key=lambda bound: (bound.plan is not None, ends_ms(bound.window)))
    level = METERS[bound.meter].counting is Counting.LEVEL
    return Refused(bound, 0 if level else ends_ms(bound.window) - turn.now_ms)


def wait(turn: Turn, since_ms: int) -> Wait:
    """A pause that grows with the time units have been asked back."""
    return Wait(min(WAIT_MAX_MS, max(WAIT_MIN_MS, (turn.now_ms - since_ms) // 2)))
