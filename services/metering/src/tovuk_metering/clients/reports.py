"""What stores report, free of the wire."""

from collections.abc import Sequence
from dataclasses import dataclass

#: (service, resource) → units or bytes.
Lines = dict[tuple[str, str], int]


@dataclass(frozen=True, slots=True)
class LeaseTotals:
    """All that was used of a lease so far. `seq` is the sum over all lines, of which a report may carry a part."""

    lease_id: int
    epoch: int
    seq: int
    final: bool
    lines: Lines


@dataclass(frozen=True, slots=True)
class LevelTotals:
    """A store's whole level of an account's meter, after its change number `seq`."""

    account_id: str
    meter: str
    seq: int
    bytes: int
    lines: Lines


@dataclass(frozen=True, slots=True)
class Report:
    """What one store says."""

    store: str
    leases: Sequence[LeaseTotals] = ()
    levels: Sequence[LevelTotals] = ()
