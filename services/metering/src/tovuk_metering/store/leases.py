"""Open count leases, and what of each is applied to the ledger."""

import secrets
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from tovuk_kit.database import Tx
from tovuk_metering.store.holders import Holder

_COLUMNS = (
    "lease_id, store, epoch, account_id, meter, day, version, granted, applied, unlimited, seen, offered_at_ms,"
    " recalled_at_ms"
)
_SELECT = f"SELECT {_COLUMNS} FROM leases"  # noqa: S608  # constant text

#: Lease ids are random: a database restored from a copy never hands out an id that is in use. They fit a double, which
#: is what Lua counts in.
_ID_MAX = 2**53


@dataclass(slots=True)
class Lease:
    """Units of an account's meter in the hands of one holder, for one UTC day and its month."""

    lease_id: int
    holder: Holder
    account_id: str
    meter: str
    day: str
    version: int = 1
    #: Units granted since the lease began; means nothing while `unlimited`.
    granted: int = 0
    #: Units of it that are in the ledger.
    applied: int = 0
    unlimited: bool = False
    #: The holder has shown that it knows the lease.
    seen: bool = False
    #: When it was last handed out, Unix milliseconds.
    offered_at_ms: int = 0
    #: Since when it is asked back, Unix milliseconds; 0 when it is not.
    recalled_at_ms: int = 0

    @property
    def outstanding(self) -> int:
        """Units that may still be used, or are used and not yet applied."""
        return max(0, self.granted - self.applied)

    @property
    def windows(self) -> tuple[str, str]:
        """The day and the month it belongs to."""
        return self.day, self.day[:7]


def new_id() -> int:
    """A fresh lease id, never 0."""
    return 1 + secrets.randbelow(_ID_MAX - 1)


def _lease(row: tuple[Any, ...]) -> Lease:
    lease_id, store, epoch, account_id, meter, day, version, granted, applied, unlimited, seen, offered, recalled = row
    return Lease(
        lease_id,
        Holder(store, epoch),
        account_id,
        meter,
        day,
        version,
        granted,
        applied,
        bool(unlimited),
        bool(seen),
        offered,
        recalled,
    )


def insert(tx: Tx, lease: Lease) -> None:
    """Open a lease."""
    tx.execute(
        f"INSERT INTO leases ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608  # constant text
        (
            lease.lease_id,
            lease.holder.store,
            lease.holder.epoch,
            lease.account_id,
            lease.meter,
            lease.day,
            lease.version,
            lease.granted,
            lease.applied,
            int(lease.unlimited),
            int(lease.seen),
            lease.offered_at_ms,
            lease.recalled_at_ms,
        ),
    )


def update(tx: Tx, lease: Lease) -> None:
    """Store what of an open lease changes."""
    tx.execute(
        "UPDATE leases SET version = ?, granted = ?, applied = ?, unlimited = ?, seen = ?, offered_at_ms = ?,"
        " recalled_at_ms = ? WHERE lease_id = ?",
        (
            lease.version,
            lease.granted,
            lease.applied,
            int(lease.unlimited),
            int(lease.seen),
            lease.offered_at_ms,
            lease.recalled_at_ms,
            lease.lease_id,
        ),
    )


def mark_seen(tx: Tx, lease_id: int) -> None:
    """The holder has shown that it knows the lease."""
    tx.execute("UPDATE leases SET seen = 1 WHERE lease_id = ?", (lease_id,))


def close(tx: Tx, lease_id: int) -> None:
    """Remove a lease and its lines; the ledger keeps what was applied."""
    tx.execute("DELETE FROM lease_lines WHERE lease_id = ?", (lease_id,))
    tx.execute("DELETE FROM leases WHERE lease_id = ?", (lease_id,))


def by_id(tx: Tx, lease_id: int) -> Lease | None:
    """The open lease of this id."""
    rows = tx.execute(f"{_SELECT} WHERE lease_id = ?", (lease_id,))
    return _lease(rows[0]) if rows else None


def of_holder(tx: Tx, holder: Holder) -> list[Lease]:
    """All open leases of a holder."""
    return [_lease(row) for row in tx.execute(f"{_SELECT} WHERE store = ? AND epoch = ?", (holder.store, holder.epoch))]


def by_ids(tx: Tx, lease_ids: Collection[int]) -> dict[int, Lease]:
    """Those of the leases that are open."""
    return {lease.lease_id: lease for lease in _in(tx, "lease_id", lease_ids)}


def of_holders(tx: Tx, held_by: Collection[Holder]) -> list[Lease]:
    """All open leases of these holders, by lease id."""
    found = [lease for lease in _in(tx, "store", {holder.store for holder in held_by}) if lease.holder in held_by]
    return sorted(found, key=lambda lease: lease.lease_id)


def _in(tx: Tx, column: str, values: Collection[int | str]) -> list[Lease]:
    if not values:
        return []
    return [
        _lease(row)
        for row in tx.execute(f"{_SELECT} WHERE {column} IN ({', '.join('?' for _ in values)})", tuple(values))
    ]


def of_month(tx: Tx, account_id: str, month: str, meter: str | None = None) -> list[Lease]:
    """The account's open leases of a month, of one meter or of all."""
    # Days of a month sort between its first and its last, whatever its length.
    days = (account_id, f"{month}-01", f"{month}-31")
    if meter is None:
        rows = tx.execute(f"{_SELECT} WHERE account_id = ? AND day >= ? AND day <= ?", days)
    else:
        rows = tx.execute(f"{_SELECT} WHERE account_id = ? AND day >= ? AND day <= ? AND meter = ?", (*days, meter))
    return [_lease(row) for row in rows]


def older_than(tx: Tx, day: str) -> list[Lease]:
    """Open leases of days before a day."""
    return [_lease(row) for row in tx.execute(f"{_SELECT} WHERE day < ?", (day,))]


def lines(tx: Tx, lease_id: int) -> dict[tuple[str, str], int]:
    """Units applied by (service, resource)."""
    rows = tx.execute("SELECT service_id, resource_id, units FROM lease_lines WHERE lease_id = ?", (lease_id,))
    return {(row[0], row[1]): row[2] for row in rows}


def set_line(tx: Tx, lease_id: int, service_id: str, resource_id: str, units: int) -> None:
    """Store the units applied of one line."""
    tx.execute(
        "INSERT INTO lease_lines (lease_id, service_id, resource_id, units) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (lease_id, service_id, resource_id) DO UPDATE SET units = excluded.units",
        (lease_id, service_id, resource_id, units),
    )
