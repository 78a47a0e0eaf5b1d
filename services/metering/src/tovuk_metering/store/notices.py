"""Notices to an account's owner, on their way to control."""

from collections.abc import Collection
from dataclasses import dataclass

from tovuk_kit.database import Tx


@dataclass(frozen=True, slots=True)
class Notice:
    """One activity entry; its id says what it is about, so that it is written and shown once."""

    notice_id: str
    account_id: str
    kind: str
    details_json: str
    at_ms: int


def add(tx: Tx, notice: Notice) -> bool:
    """Store the notice unless it was stored before; whether it is new."""
    return bool(
        tx.execute(
            "INSERT INTO notices (notice_id, account_id, kind, details_json, at_ms, delivered)"
            " VALUES (?, ?, ?, ?, ?, 0) ON CONFLICT (notice_id) DO NOTHING RETURNING notice_id",
            (notice.notice_id, notice.account_id, notice.kind, notice.details_json, notice.at_ms),
        )
    )


def exist(tx: Tx, notice_ids: Collection[str]) -> set[str]:
    """Those of the notices that were written."""
    if not notice_ids:
        return set()
    marks = ", ".join("?" for _ in notice_ids)
    rows = tx.execute(
        f"SELECT notice_id FROM notices WHERE notice_id IN ({marks})",  # noqa: S608  # placeholders only
        tuple(notice_ids),
    )
    return {row[0] for row in rows}


def undelivered(tx: Tx, limit: int) -> list[Notice]:
    """The oldest notices control has not taken."""
    rows = tx.execute(
        "SELECT notice_id, account_id, kind, details_json, at_ms FROM notices"
        " WHERE delivered = 0 ORDER BY at_ms, notice_id LIMIT ?",
        (limit,),
    )
    return [Notice(*row) for row in rows]


def mark_delivered(tx: Tx, notice_id: str) -> None:
    """Control has the notice."""
    tx.execute("UPDATE notices SET delivered = 1 WHERE notice_id = ?", (notice_id,))


def prune(tx: Tx, before_ms: int) -> None:
    """Forget delivered notices older than a moment."""
    tx.execute("DELETE FROM notices WHERE delivered = 1 AND at_ms < ?", (before_ms,))
