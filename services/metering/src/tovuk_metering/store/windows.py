"""Sums of one account's meters over a UTC day or month."""

from collections.abc import Collection
from dataclasses import dataclass

from tovuk_kit.database import Tx


@dataclass(frozen=True, slots=True)
class Tally:
    """Units of a window: `settled` are billed; `burnt` are lost with a holder and never billed."""

    settled: int = 0
    burnt: int = 0

    @property
    def gone(self) -> int:
        """Units nobody can use any more."""
        return self.settled + self.burnt


def add(tx: Tx, account_id: str, meter: str, starts: Collection[str], *, settled: int = 0, burnt: int = 0) -> None:
    """Add units to each of the windows."""
    for start in starts:
        tx.execute(
            "INSERT INTO windows (account_id, window_start, meter, settled, burnt) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (account_id, window_start, meter) DO UPDATE SET"
            " settled = windows.settled + excluded.settled, burnt = windows.burnt + excluded.burnt",
            (account_id, start, meter, settled, burnt),
        )


def tally(tx: Tx, account_id: str, meter: str, start: str) -> Tally:
    """The sums of one window."""
    rows = tx.execute(
        "SELECT settled, burnt FROM windows WHERE account_id = ? AND window_start = ? AND meter = ?",
        (account_id, start, meter),
    )
    return Tally(*rows[0]) if rows else Tally()


def of_account(tx: Tx, account_id: str, start: str) -> dict[str, Tally]:
    """The sums of every meter that has any in the windows that begin there."""
    rows = tx.execute(
        "SELECT meter, settled, burnt FROM windows WHERE account_id = ? AND window_start = ?", (account_id, start)
    )
    return {row[0]: Tally(row[1], row[2]) for row in rows}
