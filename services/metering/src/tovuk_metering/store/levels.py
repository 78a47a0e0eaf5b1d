"""Bytes an account stores at each store, how far each store may let them grow, and since when."""

from collections.abc import Collection
from dataclasses import dataclass

from tovuk_kit.database import Tx
from tovuk_kit.usage import UNLIMITED

_COLUMNS = "account_id, meter, store, version, believed, bytes, seq, applied_seq, recalled_at_ms, trimmed_at_ms"
_SELECT = f"SELECT {_COLUMNS} FROM levels"  # noqa: S608  # constant text


@dataclass(slots=True)
class Level:
    """One store's level of an account's meter, as far as metering knows."""

    account_id: str
    meter: str
    store: str
    #: Numbers the allowances this service has granted.
    version: int = 0
    #: Never below the allowance the store has; UNLIMITED where no limit bound it.
    believed: int = 0
    #: The level in the newest word of the store, and that word's sequence.
    bytes: int = 0
    seq: int = -1
    #: Sequence of the newest report whose lines are stored.
    applied_seq: int = -1
    #: Since when its spare room is asked back, Unix milliseconds; 0 when it is not.
    recalled_at_ms: int = 0
    #: When the store was last asked for room that it gave back; rises with every time it does.
    trimmed_at_ms: int = 0

    @property
    def unlimited(self) -> bool:
        return self.believed >= UNLIMITED

    @property
    def spare(self) -> int:
        """Room the store may still fill."""
        return max(0, self.believed - self.bytes)

    @property
    def claim(self) -> int:
        """What of a limit the store takes: its bytes and its spare room."""
        return max(self.believed, self.bytes)


@dataclass(frozen=True, slots=True)
class Line:
    """Bytes of one resource, unchanged since `since_ms`."""

    meter: str
    store: str
    service_id: str
    resource_id: str
    bytes: int
    since_ms: int


def get(tx: Tx, account_id: str, meter: str, store: str) -> Level | None:
    """One store's level."""
    rows = tx.execute(f"{_SELECT} WHERE account_id = ? AND meter = ? AND store = ?", (account_id, meter, store))
    return Level(*rows[0]) if rows else None


def put(tx: Tx, level: Level) -> None:
    """Store the level whole."""
    tx.execute(
        f"INSERT INTO levels ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608  # constant text
        " ON CONFLICT (account_id, meter, store) DO UPDATE SET version = excluded.version,"
        " believed = excluded.believed, bytes = excluded.bytes, seq = excluded.seq,"
        " applied_seq = excluded.applied_seq, recalled_at_ms = excluded.recalled_at_ms,"
        " trimmed_at_ms = excluded.trimmed_at_ms",
        (
            level.account_id,
            level.meter,
            level.store,
            level.version,
            level.believed,
            level.bytes,
            level.seq,
            level.applied_seq,
            level.recalled_at_ms,
            level.trimmed_at_ms,
        ),
    )


def of_account(tx: Tx, account_id: str, meter: str | None = None) -> list[Level]:
    """The account's levels at all stores, of one meter or of all."""
    if meter is None:
        rows = tx.execute(f"{_SELECT} WHERE account_id = ? ORDER BY meter, store", (account_id,))
    else:
        rows = tx.execute(f"{_SELECT} WHERE account_id = ? AND meter = ? ORDER BY store", (account_id, meter))
    return [Level(*row) for row in rows]


def recalled(tx: Tx, stores: Collection[str]) -> list[Level]:
    """Levels at these stores whose spare room is asked back."""
    return [
        level for row in tx.execute(f"{_SELECT} WHERE recalled_at_ms > 0") if (level := Level(*row)).store in stores
    ]


def lines(tx: Tx, account_id: str) -> list[Line]:
    """The account's resources that have bytes, at all stores."""
    rows = tx.execute(
        "SELECT meter, store, service_id, resource_id, bytes, since_ms FROM level_lines WHERE account_id = ?",
        (account_id,),
    )
    return [Line(*row) for row in rows]


def lines_of(tx: Tx, level: Level) -> list[Line]:
    """The resources that have bytes in one store's level."""
    rows = tx.execute(
        "SELECT meter, store, service_id, resource_id, bytes, since_ms FROM level_lines"
        " WHERE account_id = ? AND meter = ? AND store = ?",
        (level.account_id, level.meter, level.store),
    )
    return [Line(*row) for row in rows]


def set_line(tx: Tx, account_id: str, line: Line) -> None:
    """Store a resource's bytes; none at all removes the line."""
    key = (account_id, line.meter, line.store, line.service_id, line.resource_id)
    if line.bytes == 0:
        tx.execute(
            "DELETE FROM level_lines"
            " WHERE account_id = ? AND meter = ? AND store = ? AND service_id = ? AND resource_id = ?",
            key,
        )
        return
    tx.execute(
        "INSERT INTO level_lines (account_id, meter, store, service_id, resource_id, bytes, since_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (account_id, meter, store, service_id, resource_id) DO UPDATE SET"
        " bytes = excluded.bytes, since_ms = excluded.since_ms",
        (*key, line.bytes, line.since_ms),
    )
