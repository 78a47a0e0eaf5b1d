"""An account's own caps."""

from dataclasses import dataclass

from tovuk_kit.database import Tx
from tovuk_kit.meters import Period

_COLUMNS = "meter, period, cap_value, hard_stop, notify_at_percent, updated_at_ms"


@dataclass(frozen=True, slots=True)
class Cap:
    """A threshold of one meter and period; `hard_stop` refuses beyond it, otherwise it only gives notice."""

    meter: str
    period: Period
    units: int
    hard_stop: bool
    notify_at_percent: int
    updated_at_ms: int


def put(tx: Tx, account_id: str, cap: Cap) -> None:
    """Set the cap, replacing the one of its meter and period."""
    tx.execute(
        f"INSERT INTO caps (account_id, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608  # constant text
        " ON CONFLICT (account_id, meter, period) DO UPDATE SET cap_value = excluded.cap_value,"
        " hard_stop = excluded.hard_stop, notify_at_percent = excluded.notify_at_percent,"
        " updated_at_ms = excluded.updated_at_ms",
        (
            account_id,
            cap.meter,
            cap.period,
            cap.units,
            int(cap.hard_stop),
            cap.notify_at_percent,
            cap.updated_at_ms,
        ),
    )


def delete(tx: Tx, account_id: str, meter: str, period: str) -> bool:
    """Whether there was such a cap."""
    return bool(
        tx.execute(
            "DELETE FROM caps WHERE account_id = ? AND meter = ? AND period = ? RETURNING meter",
            (account_id, meter, period),
        )
    )


def of_account(tx: Tx, account_id: str) -> list[Cap]:
    """All caps, by meter and period."""
    rows = tx.execute(
        f"SELECT {_COLUMNS} FROM caps WHERE account_id = ? ORDER BY meter, period",  # noqa: S608  # constant text
        (account_id,),
    )
    return [Cap(r[0], r[1], r[2], bool(r[3]), r[4], r[5]) for r in rows]
