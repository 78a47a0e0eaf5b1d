"""What is billed: units, and bytes over time, by account, day, meter, service and resource."""

from dataclasses import dataclass

from tovuk_kit.database import Tx


@dataclass(frozen=True, slots=True)
class Entry:
    """Units of one resource on one day."""

    meter: str
    service_id: str
    resource_id: str
    day: str
    units: int


def add(tx: Tx, account_id: str, day: str, meter: str, service_id: str, resource_id: str, units: int) -> None:
    """Bill units."""
    tx.execute(
        "INSERT INTO ledger (account_id, day, meter, service_id, resource_id, units) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (account_id, day, meter, service_id, resource_id) DO UPDATE SET"
        " units = ledger.units + excluded.units",
        (account_id, day, meter, service_id, resource_id, units),
    )


def of_month(tx: Tx, account_id: str, month: str) -> list[Entry]:
    """All lines of a month, by meter, service, resource and day."""
    rows = tx.execute(
        "SELECT meter, service_id, resource_id, day, units FROM ledger WHERE account_id = ? AND day >= ? AND day <= ?"
        " ORDER BY meter, service_id, resource_id, day",
        (account_id, f"{month}-01", f"{month}-31"),
    )
    return [Entry(*row) for row in rows]


def add_byte_time(
    tx: Tx, account_id: str, day: str, meter: str, service_id: str, resource_id: str, byte_ms: int
) -> None:
    """Bill bytes over time, in byte-milliseconds."""
    key = (account_id, day, meter, service_id, resource_id)
    rows = tx.execute(
        "SELECT byte_ms FROM byte_time"
        " WHERE account_id = ? AND day = ? AND meter = ? AND service_id = ? AND resource_id = ?",
        key,
    )
    # Sums beyond 64 bits are Python's to add; the account's lock keeps others out meanwhile.
    total = byte_ms + (int(rows[0][0]) if rows else 0)
    tx.execute(
        "INSERT INTO byte_time (account_id, day, meter, service_id, resource_id, byte_ms) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (account_id, day, meter, service_id, resource_id) DO UPDATE SET byte_ms = excluded.byte_ms",
        (*key, str(total)),
    )


def byte_time_of_month(tx: Tx, account_id: str, month: str) -> list[Entry]:
    """Byte-milliseconds of a month as `units`, without what is running."""
    rows = tx.execute(
        "SELECT meter, service_id, resource_id, day, byte_ms FROM byte_time"
        " WHERE account_id = ? AND day >= ? AND day <= ? ORDER BY meter, service_id, resource_id, day",
        (account_id, f"{month}-01", f"{month}-31"),
    )
    return [Entry(row[0], row[1], row[2], row[3], int(row[4])) for row in rows]


def prune(tx: Tx, before_day: str) -> None:
    """Forget lines and sums of days before a day."""
    tx.execute("DELETE FROM ledger WHERE day < ?", (before_day,))
    tx.execute("DELETE FROM byte_time WHERE day < ?", (before_day,))
    # A month sorts before its own days, so the month of `before_day` must be kept by its length.
    tx.execute("DELETE FROM windows WHERE window_start < ? AND window_start <> ?", (before_day, before_day[:7]))
