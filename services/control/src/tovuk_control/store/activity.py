"""The table of activity entries, numbered within each account."""

# Only constants of this module are put into a statement's text.
# ruff: noqa: S608

from dataclasses import dataclass

from tovuk_kit.database import Tx

_COLUMNS = "id, account_id, kind, service_id, details_json, at_ms, seq"


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened; `seq` numbers the account's entries in the order they were recorded, 0 before."""

    id: str
    account_id: str
    kind: str
    service_id: str
    #: A JSON object.
    details_json: str
    at_ms: int
    seq: int = 0


def known(tx: Tx, entry_id: str) -> bool:
    """Whether an entry of this id is recorded."""
    return bool(tx.execute("SELECT 1 FROM activity WHERE id = ?", (entry_id,)))


def append(tx: Tx, entry: Entry, entries_max: int) -> None:
    """Record an entry of an account that exists, and forget its oldest beyond `entries_max`."""
    ((seq,),) = tx.execute(
        "UPDATE accounts SET activity_seq = activity_seq + 1 WHERE id = ? RETURNING activity_seq", (entry.account_id,)
    )
    tx.execute(
        f"INSERT INTO activity ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (entry.id, entry.account_id, entry.kind, entry.service_id, entry.details_json, entry.at_ms, seq),
    )
    tx.execute("DELETE FROM activity WHERE account_id = ? AND seq <= ?", (entry.account_id, seq - entries_max))


def page(tx: Tx, account_id: str, before_seq: int | None, limit: int) -> list[Entry]:
    """The account's entries, newest first, older than `before_seq` if it is given."""
    bound, params = ("AND seq < ?", (before_seq,)) if before_seq is not None else ("", ())
    rows = tx.execute(
        f"SELECT {_COLUMNS} FROM activity WHERE account_id = ? {bound} ORDER BY seq DESC LIMIT ?",
        (account_id, *params, limit),
    )
    return [Entry(*row) for row in rows]
