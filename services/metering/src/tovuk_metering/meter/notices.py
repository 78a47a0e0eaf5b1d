"""When an account's owner is told: at a limit's threshold and at the stop, once per limit and window."""

import hashlib
import json
from collections.abc import Iterable
from typing import Literal

from tovuk_kit.ids import ID_DIGITS
from tovuk_kit.meters import METERS, Counting
from tovuk_metering.meter.bounds import Bound, bounds_of, is_known
from tovuk_metering.meter.turn import Turn
from tovuk_metering.store import levels, notices, windows

Event = Literal["notified", "reached"]


def notice_id(account_id: str, bound: Bound, event: Event) -> str:
    """The same for the same limit, window and event, so that a notice is written once and control keeps it once."""
    threshold = bound.notify_at_percent if event == "notified" else 100
    parts = (account_id, bound.plan or "", bound.meter, bound.window, str(bound.units), str(threshold), event)
    return f"activity_{hashlib.sha256('/'.join(parts).encode()).hexdigest()[:ID_DIGITS]}"


def look(turn: Turn, account_id: str, meter: str) -> None:
    """Give the notices that the meter's usage calls for."""
    if not is_known(turn, account_id):
        return
    for bound in bounds_of(turn, account_id, meter):
        used, burnt = _used(turn, account_id, bound)
        if bound.units and used * 100 >= bound.units * bound.notify_at_percent:
            _give(turn, account_id, bound, "notified", used)
        if bound.units and used + burnt >= bound.units:
            _give(turn, account_id, bound, "reached", used)


def reached(turn: Turn, account_id: str, bounds: Iterable[Bound]) -> None:
    """Something was refused because of these limits."""
    for bound in bounds:
        _give(turn, account_id, bound, "reached", _used(turn, account_id, bound)[0])


def _used(turn: Turn, account_id: str, bound: Bound) -> tuple[int, int]:
    if METERS[bound.meter].counting is Counting.LEVEL:
        return sum(level.bytes for level in levels.of_account(turn.tx, account_id, bound.meter)), 0
    tally = windows.tally(turn.tx, account_id, bound.meter, bound.window)
    return tally.settled, tally.burnt


def _give(turn: Turn, account_id: str, bound: Bound, event: Event, used: int) -> None:
    details = {
        "metric": bound.meter,
        "period": bound.period,
        "window": bound.window,
        "limit": bound.units,
        "used": used,
        "notifyAtPercent": bound.notify_at_percent,
        "hardStop": bound.hard,
    } | ({"plan": bound.plan} if bound.plan else {})
    kind = f"{'plan_limit' if bound.plan else 'cap'}_{event}"
    notice = notices.Notice(
        notice_id(account_id, bound, event), account_id, kind, json.dumps(details, separators=(",", ":")), turn.now_ms
    )
    notices.add(turn.tx, notice)
