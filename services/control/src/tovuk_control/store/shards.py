"""The tables of shards, and of where databases lie."""

# Only constants of this module are put into a statement's text.
# ruff: noqa: S608

from dataclasses import dataclass

from tovuk_control.store.resources import Resource
from tovuk_kit.database import Tx

_COLUMNS = "name, address, store, lock_id, holder, fencing, renewals, lasts_ms, renewed_at_ms"


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard and the claim on it; `holder` is empty when it was given up."""

    name: str
    address: str
    #: The data folder.
    store: str
    #: The folder's lock.
    lock_id: str
    #: The process.
    holder: str
    fencing: int
    renewals: int
    lasts_ms: int
    renewed_at_ms: int


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a database lies, and whether its owner has confirmed it."""

    database_id: str
    shard: str
    confirmed: bool
    #: The shard it is to move to; empty where it stays.
    moving_to: str = ""


@dataclass(frozen=True, slots=True)
class Move:
    """A database that is to leave its shard."""

    database_id: str
    shard: str
    to: str
    #: Where the shard it moves to is reached.
    address: str


def get(tx: Tx, name: str) -> Shard | None:
    """The shard of this name."""
    rows = tx.execute(f"SELECT {_COLUMNS} FROM shards WHERE name = ?", (name,))
    return Shard(*rows[0]) if rows else None


def put(tx: Tx, shard: Shard) -> None:
    """Store the shard as it is now."""
    tx.execute(
        f"INSERT INTO shards ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET"
        " address = excluded.address, store = excluded.store, lock_id = excluded.lock_id, holder = excluded.holder,"
        " fencing = excluded.fencing, renewals = excluded.renewals, lasts_ms = excluded.lasts_ms,"
        " renewed_at_ms = excluded.renewed_at_ms",
        (
            shard.name,
            shard.address,
            shard.store,
            shard.lock_id,
            shard.holder,
            shard.fencing,
            shard.renewals,
            shard.lasts_ms,
            shard.renewed_at_ms,
        ),
    )


def all_with_databases(tx: Tx) -> list[tuple[Shard, int]]:
    """Every shard and how many databases are placed there, the one with the fewest first."""
    columns = ", ".join(f"s.{column}" for column in _COLUMNS.split(", "))
    rows = tx.execute(
        f"SELECT {columns}, COUNT(p.database_id) FROM shards s LEFT JOIN placements p ON p.shard = s.name"
        f" GROUP BY {columns} ORDER BY COUNT(p.database_id), s.name"
    )
    return [(Shard(*row[:-1]), row[-1]) for row in rows]


def holds_databases(tx: Tx, name: str) -> bool:
    """Whether a database is placed at the shard."""
    return bool(tx.execute("SELECT 1 FROM placements WHERE shard = ? LIMIT 1", (name,)))


def place(tx: Tx, database_id: str, shard: str) -> None:
    """A new database lies at the shard."""
    tx.execute("INSERT INTO placements (database_id, shard, moving_to) VALUES (?, ?, '')", (database_id, shard))


def unplace(tx: Tx, database_id: str) -> None:
    """The database lies nowhere any more."""
    tx.execute("DELETE FROM placements WHERE database_id = ?", (database_id,))


def unplace_of_service(tx: Tx, service_id: str) -> list[str]:
    """The service's databases lie nowhere any more; the shards where they did."""
    rows = tx.execute(
        "SELECT DISTINCT p.shard FROM placements p JOIN resources r ON r.id = p.database_id WHERE r.service_id = ?",
        (service_id,),
    )
    tx.execute(
        "DELETE FROM placements WHERE database_id IN (SELECT id FROM resources WHERE service_id = ?)", (service_id,)
    )
    return sorted(row[0] for row in rows)


def located(tx: Tx, service_id: str, ref: str) -> Placement | None:
    """Where the service's database of this id or name lies."""
    rows = tx.execute(
        "SELECT r.id, p.shard, r.confirmed_at_ms, p.moving_to FROM resources r"
        " JOIN placements p ON p.database_id = r.id"
        " WHERE r.service_id = ? AND (r.id = ? OR r.name = ?) ORDER BY r.id = ? DESC LIMIT 1",
        (service_id, ref, ref, ref),
    )
    return Placement(rows[0][0], rows[0][1], bool(rows[0][2]), rows[0][3]) if rows else None


def of_service(tx: Tx, service_id: str) -> list[Placement]:
    """Where each of the service's databases lies."""
    rows = tx.execute(
        "SELECT r.id, p.shard, r.confirmed_at_ms FROM resources r JOIN placements p ON p.database_id = r.id"
        " WHERE r.service_id = ? ORDER BY r.id",
        (service_id,),
    )
    return [Placement(database_id, shard, bool(confirmed)) for database_id, shard, confirmed in rows]


def of_database(tx: Tx, database_id: str) -> tuple[str, Placement] | None:
    """A database's service, and where it lies."""
    rows = tx.execute(
        "SELECT r.service_id, p.shard, r.confirmed_at_ms, p.moving_to FROM resources r"
        " JOIN placements p ON p.database_id = r.id WHERE r.id = ?",
        (database_id,),
    )
    return (rows[0][0], Placement(database_id, rows[0][1], bool(rows[0][2]), rows[0][3])) if rows else None


def put_placement(tx: Tx, placement: Placement) -> None:
    """The database lies, and moves, so from now on."""
    tx.execute(
        "UPDATE placements SET shard = ?, moving_to = ? WHERE database_id = ?",
        (placement.shard, placement.moving_to, placement.database_id),
    )


def moves(tx: Tx, shard: str, limit: int) -> list[Move]:
    """What is to leave the shard."""
    rows = tx.execute(
        "SELECT p.database_id, p.shard, p.moving_to, s.address FROM placements p JOIN shards s ON s.name = p.moving_to"
        " WHERE p.shard = ? AND p.moving_to <> '' ORDER BY p.database_id LIMIT ?",
        (shard, limit),
    )
    return [Move(*row) for row in rows]


def databases_of(tx: Tx, shard: str) -> list[Resource]:
    """The confirmed databases that lie at the shard."""
    rows = tx.execute(
        "SELECT r.id, r.account_id, r.service_id, r.kind, r.name, r.suffix, r.reserved_at_ms, r.confirmed_at_ms"
        " FROM resources r JOIN placements p ON p.database_id = r.id"
        " WHERE p.shard = ? AND r.confirmed_at_ms <> 0 ORDER BY r.id",
        (shard,),
    )
    return [Resource(*row) for row in rows]
