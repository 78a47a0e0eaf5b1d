"""What the past leaves behind, and when it goes."""

from tovuk_metering.limits import KEEP_DAYS, LEDGER_DAYS
from tovuk_metering.meter.calendar import begins_ms, days_before
from tovuk_metering.meter.turn import Turn
from tovuk_metering.store import holders, leases, ledger, notices


def prune(turn: Turn) -> None:
    """Remove what no window, bill or holder needs any more.

    Leases so old belong to stores that are gone for good, and to windows nobody can charge any more.
    """
    old = days_before(turn.day, KEEP_DAYS)
    for lease in leases.older_than(turn.tx, old):
        leases.close(turn.tx, lease.lease_id)
    holders.prune(turn.tx, begins_ms(old))
    notices.prune(turn.tx, begins_ms(old))
    ledger.prune(turn.tx, days_before(turn.day, LEDGER_DAYS))
