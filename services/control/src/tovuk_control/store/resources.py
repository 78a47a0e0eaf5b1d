"""The registry's tables: claims of resources, and tombstones of purged services."""

# Only constants of this module are put into a statement's text.
# ruff: noqa: S608

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tovuk_kit.database import Tx

_COLUMNS = "id, account_id, service_id, kind, name, suffix, reserved_at_ms, confirmed_at_ms"


@dataclass(frozen=True, slots=True)
class Resource:
    """A claim; `confirmed_at_ms` is 0 until its owner has the resource."""

    id: str
    account_id: str
    service_id: str
    kind: str
    name: str
    #: What the name becomes in the environment of a Worker.
    suffix: str
    reserved_at_ms: int
    confirmed_at_ms: int = 0


def insert(tx: Tx, resource: Resource) -> None:
    """Add a claim whose id and suffix are new."""
    tx.execute(
        f"INSERT INTO resources ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, 0)",
        (
            resource.id,
            resource.account_id,
            resource.service_id,
            resource.kind,
            resource.name,
            resource.suffix,
            resource.reserved_at_ms,
        ),
    )


def get(tx: Tx, resource_id: str) -> Resource | None:
    """The claim of this id."""
    rows = tx.execute(f"SELECT {_COLUMNS} FROM resources WHERE id = ?", (resource_id,))
    return Resource(*rows[0]) if rows else None


def suffix_taken(tx: Tx, service_id: str, kind: str, suffix: str) -> bool:
    """Whether a resource of the kind has the suffix in the service."""
    return bool(
        tx.execute(
            "SELECT 1 FROM resources WHERE service_id = ? AND kind = ? AND suffix = ?", (service_id, kind, suffix)
        )
    )


def count_in_service(tx: Tx, service_id: str, kinds: Collection[str]) -> int:
    """Claims of these kinds in the service."""
    marks = ", ".join("?" * len(kinds))
    rows = tx.execute(
        f"SELECT COUNT(*) FROM resources WHERE service_id = ? AND kind IN ({marks})", (service_id, *kinds)
    )
    return int(rows[0][0])


def count_in_account(tx: Tx, account_id: str, kind: str) -> int:
    """Claims of the kind in the account's living services."""
    rows = tx.execute(
        "SELECT COUNT(*) FROM resources r JOIN services s ON s.id = r.service_id "
        "WHERE r.account_id = ? AND r.kind = ? AND s.deleted_at_ms = 0",
        (account_id, kind),
    )
    return int(rows[0][0])


def confirm(tx: Tx, resource_id: str, now_ms: int) -> bool:
    """Mark a claim as a resource; False when it was one before."""
    return bool(
        tx.execute(
            "UPDATE resources SET confirmed_at_ms = ? WHERE id = ? AND confirmed_at_ms = 0 RETURNING id",
            (now_ms, resource_id),
        )
    )


def release(tx: Tx, resource_id: str, service_id: str, kind: str) -> Resource | None:
    """Drop a claim; it is returned if it was there."""
    rows = tx.execute(
        f"DELETE FROM resources WHERE id = ? AND service_id = ? AND kind = ? RETURNING {_COLUMNS}",
        (resource_id, service_id, kind),
    )
    return Resource(*rows[0]) if rows else None


def unsettled(tx: Tx, kind: str, before_ms: int, limit: int, shard: str) -> list[Resource]:
    """Unconfirmed claims of the kind made before a moment, oldest first; where a shard is named, those placed there."""
    rows = tx.execute(
        f"SELECT {_COLUMNS} FROM resources WHERE kind = ? AND confirmed_at_ms = 0 AND reserved_at_ms <= ? "
        "AND (? = '' OR id IN (SELECT database_id FROM placements WHERE shard = ?)) "
        "ORDER BY reserved_at_ms, id LIMIT ?",
        (kind, before_ms, shard, shard, limit),
    )
    return [Resource(*row) for row in rows]


def delete_of_service(tx: Tx, service_id: str) -> None:
    """Forget the claims of a purged service."""
    tx.execute("DELETE FROM resources WHERE service_id = ?", (service_id,))


def bury(tx: Tx, service_id: str, owners: Sequence[str], now_ms: int) -> None:
    """Leave each owner a tombstone of a purged service."""
    for owner in owners:
        tx.execute(
            "INSERT INTO tombstones (owner, service_id, purged_at_ms) VALUES (?, ?, ?)", (owner, service_id, now_ms)
        )


def tombstones(tx: Tx, owner: str, limit: int) -> list[str]:
    """Services the owner has not acknowledged as purged, oldest first."""
    rows = tx.execute(
        "SELECT service_id FROM tombstones WHERE owner = ? ORDER BY purged_at_ms, service_id LIMIT ?", (owner, limit)
    )
    return [row[0] for row in rows]


def drop_tombstone(tx: Tx, owner: str, service_id: str) -> None:
    """The owner has purged the service."""
    tx.execute("DELETE FROM tombstones WHERE owner = ? AND service_id = ?", (owner, service_id))
