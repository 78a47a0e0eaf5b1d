"""The port between metering's holders and a durable store: usage rows, epochs and levels.

A store is where effects happen: a SQLite file, one Redis partition. Each effect's own transaction checks that its epoch
is live, adds its units to a usage row, and moves the level with its allowance; what this port adds is what holders do
beside the effects. Source: metering.md 1, 2, 5, 6, 8.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

#: The allowance of a level that no limit binds, in bytes.
UNLIMITED = 2**62


class Fenced(Exception):
    """The epoch an effect was charged to is dead; nothing was done."""


@dataclass(frozen=True, slots=True)
class UsageRow:
    """Units of one lease by service and resource: as an addition, or as the durable total."""

    lease_id: int
    service_id: str
    resource_id: str
    units: int


def units_of(rows: Iterable[UsageRow]) -> int:
    """The units of all rows."""
    return sum(row.units for row in rows)


@dataclass(frozen=True, slots=True)
class Level:
    """What an account stores here for one level meter.

    `allowance` is how far an effect may raise `bytes`; `version` numbers the allowance as metering granted it; `seq`
    rises with every change of `bytes`. `lines` are (service, resource, bytes).
    """

    account_id: str
    meter: str
    bytes: int
    allowance: int
    version: int
    seq: int
    lines: tuple[tuple[str, str, int], ...] = ()


class UsageStore(Protocol):
    """One durable store, as its holders see it. All methods are durable on return and idempotent.

    Every method raises StoreUnavailable when the store cannot be reached.
    """

    #: `<service>/<random id of the store>/<partition>`, unique for ever.
    name: str
    #: Whether one process owns the store, so that every older epoch is dead when a new one begins.
    exclusive: bool

    async def begin_epoch(self) -> int:
        """A new live epoch, larger than all before it at this store."""
        ...

    async def dead_epochs(self) -> list[int]:
        """Older epochs that still have usage rows; empty where the store is not exclusive."""
        ...

    async def fence(self, epoch: int) -> None:
        """From now on every effect and every `add` under the epoch raises Fenced."""
        ...

    async def usage(self, epoch: int, leases: Collection[int] | None) -> list[UsageRow]:
        """Durable totals of these leases, or of all of the epoch."""
        ...

    async def add(self, epoch: int, rows: Sequence[UsageRow]) -> None:
        """Add buffered units, all or none; also on a full disk. Fenced when the epoch is dead."""
        ...

    async def forget(self, epoch: int, leases: Collection[int] | None) -> None:
        """Remove rows whose final totals metering has confirmed; None removes the whole epoch."""
        ...

    async def level(self, account_id: str, meter: str) -> Level:
        """The account's level with its lines; zeros where it has none."""
        ...

    async def levels(self) -> list[Level]:
        """Every level of the store."""
        ...

    async def set_allowance(self, account_id: str, meter: str, version: int, allowance: int) -> None:
        """Apply a granted allowance; nothing happens unless the version is larger than the row's."""
        ...

    async def trim_allowance(self, account_id: str, meter: str) -> Level:
        """Lower the allowance to the bytes stored, in one step; the row as it then is."""
        ...
