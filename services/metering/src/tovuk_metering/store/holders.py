"""Incarnations of replicas at stores, and whether they are believed to live."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from tovuk_kit.database import Tx

State = Literal["live", "given_up", "buried"]


@dataclass(frozen=True, slots=True, order=True)
class Holder:
    """One incarnation of a replica at a store; a later one has a larger epoch."""

    store: str
    epoch: int

    @property
    def service(self) -> str:
        """The service whose effects the store keeps: the first part of the store's name."""
        return self.store.partition("/")[0]


def state_of(tx: Tx, holder: Holder) -> State | None:
    """None for a holder that was never heard of."""
    rows = tx.execute("SELECT state FROM holders WHERE store = ? AND epoch = ?", (holder.store, holder.epoch))
    return rows[0][0] if rows else None


def states(tx: Tx, stores: Collection[str]) -> dict[Holder, State]:
    """Every holder ever heard of at these stores that is not pruned, with its state."""
    if not stores:
        return {}
    marks = ", ".join("?" for _ in stores)
    rows = tx.execute(
        f"SELECT store, epoch, state FROM holders WHERE store IN ({marks})",  # noqa: S608  # placeholders only
        tuple(stores),
    )
    return {Holder(row[0], row[1]): row[2] for row in rows}


def put(tx: Tx, holder: Holder, state: State, now_ms: int) -> None:
    """Register the holder, or change its state."""
    tx.execute(
        "INSERT INTO holders (store, epoch, service, state, changed_at_ms) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (store, epoch) DO UPDATE SET state = excluded.state, changed_at_ms = excluded.changed_at_ms",
        (holder.store, holder.epoch, holder.service, state, now_ms),
    )


def in_state(tx: Tx, state: State, stores: Collection[str] | None = None) -> list[Holder]:
    """Holders in a state, at these stores or at all."""
    rows = tx.execute("SELECT store, epoch FROM holders WHERE state = ? ORDER BY store, epoch", (state,))
    return [Holder(*row) for row in rows if stores is None or row[0] in stores]


def newest_epoch(tx: Tx, store: str) -> int:
    """The largest epoch heard of at a store; 0 when there is none."""
    rows = tx.execute("SELECT epoch FROM holders WHERE store = ? ORDER BY epoch DESC LIMIT 1", (store,))
    return int(rows[0][0]) if rows else 0


def count_live(tx: Tx, service: str) -> int:
    """Live holders of a service; at least 1."""
    rows = tx.execute("SELECT COUNT(*) FROM holders WHERE state = 'live' AND service = ?", (service,))
    return max(1, int(rows[0][0]))


def prune(tx: Tx, before_ms: int) -> None:
    """Forget those buried, or given up without a lease, before a moment."""
    tx.execute(
        "DELETE FROM holders WHERE state <> 'live' AND changed_at_ms < ? AND NOT EXISTS"
        " (SELECT 1 FROM leases WHERE leases.store = holders.store AND leases.epoch = holders.epoch)",
        (before_ms,),
    )
