"""What people see: used, reserved and remaining units, caps, the estimate, and how old the figures are."""

from dataclasses import dataclass, field
from typing import Any

from tovuk_kit.errors import ServiceUnavailable
from tovuk_kit.meters import METER_NAMES, METERS, Counting
from tovuk_metering.limits import BEHIND_MS
from tovuk_metering.meter.bounds import Bound, bounds_of
from tovuk_metering.meter.calendar import begins_ms, ends_ms, window_of
from tovuk_metering.meter.estimate import estimate
from tovuk_metering.meter.notices import notice_id
from tovuk_metering.meter.prices import Plan
from tovuk_metering.meter.turn import Turn
from tovuk_metering.store import accounts, caps, holders, leases, ledger, levels, notices, windows
from tovuk_metering.store.caps import Cap


@dataclass(frozen=True, slots=True)
class Standing:
    """How an account stands with one limit."""

    bound: Bound
    used: int
    #: Units in the hands of holders; for a level, room they may still fill.
    reserved: int
    #: Units lost with a holder: they count against the limit, and are never billed.
    burnt: int
    #: Unix milliseconds; 0 for a level, whose window has no end.
    resets_at_ms: int

    @property
    def remaining(self) -> int:
        """Units nobody has."""
        return max(0, self.bound.units - self.used - self.reserved - self.burnt)


@dataclass(frozen=True, slots=True)
class CapStanding:
    """A cap, how the account stands with it, and which notices were given in its window."""

    cap: Cap
    standing: Standing
    notified: bool
    stopped: bool


@dataclass(slots=True)
class Usage:
    """The figures of one account at one moment."""

    plan: Plan
    day: dict[str, int]
    month: dict[str, int]
    caps: list[CapStanding]
    windows: list[Standing]
    estimate: dict[str, Any]
    as_of_ms: int
    delayed: bool


@dataclass(slots=True)
class BreakdownLine:
    """One resource's units of a meter; for a level, its bytes now."""

    meter: str
    service_id: str
    resource_id: str
    day_units: int = 0
    month_units: int = 0


@dataclass(slots=True)
class _Figures:
    """What several answers need: sums of the current windows, and what holders have."""

    day: dict[str, windows.Tally]
    month: dict[str, windows.Tally]
    leases: list[leases.Lease]
    levels: list[levels.Level]
    bytes: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, turn: Turn, account_id: str) -> "_Figures":
        found = cls(
            windows.of_account(turn.tx, account_id, turn.day),
            windows.of_account(turn.tx, account_id, turn.month),
            leases.of_month(turn.tx, account_id, turn.month),
            levels.of_account(turn.tx, account_id),
        )
        for level in found.levels:
            found.bytes[level.meter] = found.bytes.get(level.meter, 0) + level.bytes
        return found

    def used(self, sums: dict[str, windows.Tally]) -> dict[str, int]:
        """Every one of the 24 meters."""
        return {
            meter: self.bytes.get(meter, 0)
            if METERS[meter].counting is Counting.LEVEL
            else sums.get(meter, windows.Tally()).settled
            for meter in METER_NAMES
        }

    def standing(self, bound: Bound) -> Standing:
        """How the account stands with a limit."""
        if METERS[bound.meter].counting is Counting.LEVEL:
            spare = sum(level.spare for level in self.levels if level.meter == bound.meter and not level.unlimited)
            return Standing(bound, self.bytes.get(bound.meter, 0), spare, 0, 0)
        tally = (self.day if bound.period == "day" else self.month).get(bound.meter, windows.Tally())
        reserved = sum(
            lease.outstanding
            for lease in self.leases
            if lease.meter == bound.meter and bound.window in lease.windows and not lease.unlimited
        )
        return Standing(bound, tally.settled, reserved, tally.burnt, ends_ms(bound.window))


def usage_of(turn: Turn, account_id: str) -> Usage:
    """The account's figures. Raises ServiceUnavailable while control has not told its plan."""
    name = accounts.plan_of(turn.tx, account_id)
    if name is None:
        raise ServiceUnavailable(service="metering", retry_after_ms=1_000)
    figures = _Figures.of(turn, account_id)
    plan = turn.book.plan(name)
    month = figures.used(figures.month)
    behind_ms = _behind_ms(turn, figures)
    binding = {
        (bound.meter, bound.period): bound
        for bound in sorted(
            (bound for bound in bounds_of(turn, account_id) if bound.hard),
            # The last one stays: the lowest, and the plan's among equals.
            key=lambda bound: (-bound.units, bound.plan is not None),
        )
    }
    return Usage(
        plan,
        figures.used(figures.day),
        month,
        _caps(turn, account_id, figures),
        [figures.standing(binding[key]) for key in sorted(binding)],
        estimate(turn.book, plan, turn.month, month, _byte_ms(turn, account_id)),
        turn.now_ms - behind_ms,
        behind_ms > BEHIND_MS,
    )


def caps_of(turn: Turn, account_id: str) -> list[CapStanding]:
    """The account's own caps."""
    return _caps(turn, account_id, _Figures.of(turn, account_id))


def breakdown_of(turn: Turn, account_id: str) -> list[BreakdownLine]:
    """Usage by meter, service and resource."""
    found: dict[tuple[str, str, str], BreakdownLine] = {}

    def line(meter: str, service_id: str, resource_id: str) -> BreakdownLine:
        key = (meter, service_id, resource_id)
        return found.setdefault(key, BreakdownLine(*key))

    for entry in ledger.of_month(turn.tx, account_id, turn.month):
        counted = line(entry.meter, entry.service_id, entry.resource_id)
        counted.month_units += entry.units
        counted.day_units += entry.units if entry.day == turn.day else 0
    for stored in levels.lines(turn.tx, account_id):
        counted = line(stored.meter, stored.service_id, stored.resource_id)
        counted.month_units += stored.bytes
        counted.day_units += stored.bytes
    return [found[key] for key in sorted(found)]


def _caps(turn: Turn, account_id: str, figures: _Figures) -> list[CapStanding]:
    found = []
    for cap in caps.of_account(turn.tx, account_id):
        window = window_of(turn.now_ms, cap.period)
        bound = Bound(cap.meter, cap.period, window, cap.units, None, cap.hard_stop, cap.notify_at_percent)
        ids = [notice_id(account_id, bound, event) for event in ("notified", "reached")]
        given = notices.exist(turn.tx, ids)
        found.append(CapStanding(cap, figures.standing(bound), ids[0] in given, ids[1] in given))
    return found


def _byte_ms(turn: Turn, account_id: str) -> dict[str, int]:
    """Byte-milliseconds of the month by meter, up to now."""
    sums: dict[str, int] = {}
    for entry in ledger.byte_time_of_month(turn.tx, account_id, turn.month):
        sums[entry.meter] = sums.get(entry.meter, 0) + entry.units
    for line in levels.lines(turn.tx, account_id):
        ms = max(0, turn.now_ms - max(line.since_ms, begins_ms(turn.month)))
        sums[line.meter] = sums.get(line.meter, 0) + line.bytes * ms
    return sums


def _behind_ms(turn: Turn, figures: _Figures) -> int:
    """How far the figures may lag: by what the account's holders have not reported yet."""
    involved = {lease.holder for lease in figures.leases}
    stores = {level.store for level in figures.levels}
    involved |= set(holders.in_state(turn.tx, "live", stores)) if stores else set()
    return max((turn.liveness.behind_ms(holder) for holder in involved), default=0)
