"""The table of services, living and deleted."""

# Only constants of this module are put into a statement's text.
# ruff: noqa: S608

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tovuk_kit.database import Tx

_COLUMNS = "id, account_id, name, kind, capabilities, created_at_ms, deleted_at_ms, purge_at_ms"


@dataclass(frozen=True, slots=True)
class Service:
    """One service; times are Unix milliseconds, `deleted_at_ms` and `purge_at_ms` 0 while it lives."""

    id: str
    account_id: str
    name: str
    kind: str
    #: Those that are on.
    capabilities: frozenset[str]
    created_at_ms: int
    deleted_at_ms: int = 0
    purge_at_ms: int = 0
    #: Confirmed resources by kind.
    resource_counts: Mapping[str, int] = field(default_factory=dict)


def insert(tx: Tx, service: Service) -> None:
    """Add a living service whose name is free in its account."""
    tx.execute(
        f"INSERT INTO services ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, 0, 0)",
        (
            service.id,
            service.account_id,
            service.name,
            service.kind,
            " ".join(sorted(service.capabilities)),
            service.created_at_ms,
        ),
    )


def by_id(tx: Tx, account_id: str, service_id: str) -> Service | None:
    """The account's service of this id, living or deleted."""
    return _one(tx, "id = ? AND account_id = ?", (service_id, account_id))


def living_by_id(tx: Tx, account_id: str, service_id: str) -> Service | None:
    """The account's living service of this id."""
    return _one(tx, "id = ? AND account_id = ? AND deleted_at_ms = 0", (service_id, account_id))


def living_by_name(tx: Tx, account_id: str, name: str) -> Service | None:
    """The account's living service of this name."""
    return _one(tx, "account_id = ? AND name = ? AND deleted_at_ms = 0", (account_id, name))


def count_living(tx: Tx, account_id: str) -> int:
    """Living services of the account."""
    rows = tx.execute("SELECT COUNT(*) FROM services WHERE account_id = ? AND deleted_at_ms = 0", (account_id,))
    return int(rows[0][0])


def page(
    tx: Tx, account_id: str, *, deleted: bool, purge_after_ms: int, after: tuple[int, str], limit: int
) -> list[Service]:
    """Living services, or deleted ones to be purged after a moment, oldest first, behind (created_at_ms, id)."""
    which = "deleted_at_ms <> 0 AND purge_at_ms > ?" if deleted else "deleted_at_ms = 0"
    bound = (purge_after_ms,) if deleted else ()
    rows = tx.execute(
        f"SELECT {_COLUMNS} FROM services WHERE account_id = ? AND {which} AND (created_at_ms, id) > (?, ?) "
        "ORDER BY created_at_ms, id LIMIT ?",
        (account_id, *bound, *after, limit),
    )
    if not rows:
        return []
    counts: dict[str, dict[str, int]] = {}
    for service_id, kind, count in tx.execute(
        "SELECT service_id, kind, COUNT(*) FROM resources WHERE account_id = ? AND confirmed_at_ms <> 0 "
        "GROUP BY service_id, kind",
        (account_id,),
    ):
        counts.setdefault(service_id, {})[kind] = count
    return [_service(row, counts.get(row[0], {})) for row in rows]


def delete(tx: Tx, service_id: str, now_ms: int, purge_at_ms: int) -> None:
    """Hide a living service and free its name."""
    tx.execute(
        "UPDATE services SET deleted_at_ms = ?, purge_at_ms = ? WHERE id = ? AND deleted_at_ms = 0",
        (now_ms, purge_at_ms, service_id),
    )


def restore(tx: Tx, service_id: str, now_ms: int) -> bool:
    """Bring a deleted service back; False when its time is over."""
    return bool(
        tx.execute(
            "UPDATE services SET deleted_at_ms = 0, purge_at_ms = 0 "
            "WHERE id = ? AND deleted_at_ms <> 0 AND purge_at_ms > ? RETURNING id",
            (service_id, now_ms),
        )
    )


def due(tx: Tx, now_ms: int, limit: int) -> list[tuple[str, str, str]]:
    """(id, account, name) of deleted services whose time is over."""
    rows = tx.execute(
        "SELECT id, account_id, name FROM services WHERE deleted_at_ms <> 0 AND purge_at_ms <= ? "
        "ORDER BY purge_at_ms LIMIT ?",
        (now_ms, limit),
    )
    return [(row[0], row[1], row[2]) for row in rows]


def purge(tx: Tx, service_id: str, now_ms: int) -> bool:
    """Forget a deleted service whose time is over; False when another instance did."""
    return bool(
        tx.execute(
            "DELETE FROM services WHERE id = ? AND deleted_at_ms <> 0 AND purge_at_ms <= ? RETURNING id",
            (service_id, now_ms),
        )
    )


def _one(tx: Tx, condition: str, params: tuple[str, ...]) -> Service | None:
    rows = tx.execute(f"SELECT {_COLUMNS} FROM services WHERE {condition}", params)
    if not rows:
        return None
    counts = tx.execute(
        "SELECT kind, COUNT(*) FROM resources WHERE service_id = ? AND confirmed_at_ms <> 0 GROUP BY kind",
        (rows[0][0],),
    )
    return _service(rows[0], dict(counts))


def _service(row: tuple[Any, ...], counts: Mapping[str, int]) -> Service:
    service_id, account_id, name, kind, capabilities, created_at_ms, deleted_at_ms, purge_at_ms = row
    on = frozenset(capabilities.split())
    return Service(service_id, account_id, name, kind, on, created_at_ms, deleted_at_ms, purge_at_ms, counts)
