"""Usage reports: totals become bills. Source: metering.md 3, 8.

Totals are absolute: a repeat, a gap or disorder changes nothing. A report of a lease that is closed is ignored, for its
units are burnt or were never used.
"""

from collections.abc import Sequence

from tovuk_kit.meters import METERS, Counting
from tovuk_metering.clients.reports import LeaseTotals, LevelTotals, Report
from tovuk_metering.meter import notices
from tovuk_metering.meter.calendar import spans
from tovuk_metering.meter.turn import Turn
from tovuk_metering.store import leases, ledger, levels, windows
from tovuk_metering.store.levels import Level, Line


def apply(turn: Turn, reports: Sequence[Report]) -> None:
    """Bill what is new in the reports."""
    for account_id in sorted(_accounts(turn, reports)):
        turn.lock(account_id)
    touched: set[tuple[str, str]] = set()
    for report in reports:
        for totals in report.leases:
            touched |= _apply_lease(turn, report.store, totals)
        for level in report.levels:
            touched |= _apply_level(turn, report.store, level)
    for account_id, meter in sorted(touched):
        notices.look(turn, account_id, meter)


def _accounts(turn: Turn, reports: Sequence[Report]) -> set[str]:
    found = {level.account_id for report in reports for level in report.levels}
    for lease_id in {totals.lease_id for report in reports for totals in report.leases}:
        lease = leases.by_id(turn.tx, lease_id)
        if lease is not None:
            found.add(lease.account_id)
    return found


def _apply_lease(turn: Turn, store: str, totals: LeaseTotals) -> set[tuple[str, str]]:
    lease = leases.by_id(turn.tx, totals.lease_id)
    if lease is None or (lease.holder.store, lease.holder.epoch) != (store, totals.epoch):
        return set()
    known = leases.lines(turn.tx, lease.lease_id)
    added = 0
    for (service_id, resource_id), units in totals.lines.items():
        more = units - known.get((service_id, resource_id), 0)
        if more > 0:
            leases.set_line(turn.tx, lease.lease_id, service_id, resource_id, units)
            ledger.add(turn.tx, lease.account_id, lease.day, lease.meter, service_id, resource_id, more)
            added += more
    if added:
        windows.add(turn.tx, lease.account_id, lease.meter, lease.windows, settled=added)
    if totals.final and lease.applied + added >= totals.seq:
        leases.close(turn.tx, lease.lease_id)
    elif added or not lease.seen:
        lease.applied += added
        lease.seen = True
        leases.update(turn.tx, lease)
    return {(lease.account_id, lease.meter)} if added else set()


def _apply_level(turn: Turn, store: str, totals: LevelTotals) -> set[tuple[str, str]]:
    meter = METERS.get(totals.meter)
    if meter is None or meter.counting is not Counting.LEVEL:
        return set()
    account_id = totals.account_id
    level = levels.get(turn.tx, account_id, totals.meter, store) or Level(account_id, totals.meter, store)
    if totals.seq <= level.applied_seq:
        return set()
    level.applied_seq = totals.seq
    if totals.seq >= level.seq:
        level.seq, level.bytes = totals.seq, totals.bytes
    levels.put(turn.tx, level)
    known = {(line.service_id, line.resource_id): line for line in levels.lines_of(turn.tx, level)}
    for key in known.keys() | totals.lines.keys():
        line, size = known.get(key), totals.lines.get(key, 0)
        if line is None or line.bytes != size:
            if line is not None:
                _bill_bytes(turn, account_id, line)
            levels.set_line(turn.tx, account_id, Line(totals.meter, store, *key, size, turn.now_ms))
    return {(account_id, totals.meter)}


def _bill_bytes(turn: Turn, account_id: str, line: Line) -> None:
    """Bill a resource's bytes over the time since they last changed."""
    for day, ms in spans(line.since_ms, turn.now_ms):
        ledger.add_byte_time(turn.tx, account_id, day, line.meter, line.service_id, line.resource_id, line.bytes * ms)
