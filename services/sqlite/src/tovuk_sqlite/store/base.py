"""The ports between a database and where it is kept: an engine for its file, a catalog of what exists.

An engine opens files; what it opens blocks the calling thread and is used by one thread at a time, but for `interrupt`.
Tenant SQL runs under every guard (authorizer, limits, page cap, budget, deadline); our own bookkeeping in the same file
is hidden from it. Everything an effect does, its usage rows included, is one transaction of the one file.

Methods raise StorageFull and StoreUnavailable where the disk or the file fails. What a tenant's statement does wrong
is a TovukError of `errors`, with the statement's index.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, Protocol

from tovuk_kit.sqlite_library import Connection, Library

#: A value of SQL as JSON and msgpack carry it; bytes are a BLOB, infinities are floats.
Value = None | int | float | str | bytes
#: Of one statement, by position or by name without its prefix.
Params = Sequence[Value] | Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Database:
    """A database that exists. Its file is that of `generation`; a restore makes the next one and flips to it."""

    id: str
    name: str
    service_id: str
    account_id: str
    created_at_ms: int
    generation: int = 1


class Statement(NamedTuple):
    """One SQL statement."""

    sql: str
    params: Params = ()


class Bound(StrEnum):
    """What a run can run out of."""

    ROWS_READ = "rows_read"
    ROWS_WRITTEN = "rows_written"
    FILE_BYTES = "file_bytes"


@dataclass(frozen=True, slots=True)
class Budget:
    """How far one run may go, all its statements together; it is cut in the middle of a statement."""

    rows_read: int
    rows_written: int
    #: Asked in the running thread when rows run out: how many more of them there are, 0 for none.
    more: Callable[[Bound, int], int]
    #: Bytes the file may have afterwards.
    file_bytes: int
    #: By time.monotonic.
    ends_at_s: float
    #: Rows of each result, and bytes of the JSON of all of them: of the last one's rows, and all of those before.
    result_rows: int
    result_bytes: int
    #: Parameters of one statement.
    params: int
    #: A result that does not fit its page is refused, not cut: a batch has no cursors.
    whole: bool = False
    #: Where one reading statement has another page, keep it open for `next_page`, if the engine can.
    resumable: bool = False
    #: Rows of a reading statement that former pages had.
    skip_rows: int = 0


class Exhausted(Exception):
    """The budget ended in the middle of a statement; all of the run's effects are undone."""

    def __init__(self, bound: Bound) -> None:
        super().__init__(bound)
        self.bound = bound


class Short(NamedTuple):
    """Statements that are expected to be done at once, all or none, and the rows they may read and write.

    Each is as good as a `Statement`: what a frame was decoded to is not made anew.
    """

    statements: Sequence[tuple[str, Params]]
    rows_read: int
    rows_written: int


@dataclass(frozen=True, slots=True)
class ShortBounds:
    """How far short runs may go: the time of each and of all, one page of each, and bytes of the file afterwards."""

    each_s: float
    total_s: float
    result_rows: int
    result_bytes: int
    file_bytes: int = 0


class NotShort(Exception):
    """A short run exceeded its bounds, or the time of all was over before it began; nothing of it was done."""

    def __init__(self, *, begun: bool) -> None:
        super().__init__()
        self.begun = begun


class Failed(NamedTuple):
    """Why a short run failed, TovukError, NotARead, or Exhausted for lack of room; and the rows it had read."""

    error: Exception
    rows_read: int


class NotARead(Exception):
    """A reader was given a statement that writes; nothing was done."""


class Fenced(Exception):
    """The epoch an effect was charged to is dead; nothing was done."""


class Results(NamedTuple):
    """What the statements of one run gave."""

    #: A JSON object each, with commas between: columns, rows, rowCount, rowsRead, rowsWritten, vmSteps, fullscanSteps,
    #: changes, and lastInsertRowid, 0 where nothing was changed.
    content: bytes
    rows_read: int
    rows_written: int
    vm_steps: int
    #: Of each statement.
    fullscan_steps: Sequence[int]
    changes: int
    #: Rows of the last statement's page, and whether it was cut at the page's end.
    row_count: int
    more: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """How a statement would run. `scans` are (table, columns its constraints name) of whole-table scans."""

    steps: tuple[str, ...]
    scans: tuple[str, ...]
    rows_estimated: int


class Charge(NamedTuple):
    """Units of rows written, charged to a lease of an epoch at a store."""

    store: str
    epoch: int
    lease_id: int
    units: int


class Reader(Protocol):
    """A connection that only reads, each run from one snapshot: all that is acknowledged, nothing unfinished."""

    @property
    def rows_read(self) -> int:
        """Rows the last run read, however it ended."""
        ...

    def run(self, statements: Sequence[Statement], budget: Budget) -> Results:
        """The results. Raises NotARead, Exhausted, and what a statement does wrong."""
        ...

    @property
    def suspended(self) -> bool:
        """Whether a statement is open for `next_page`; until it ends nothing else runs."""
        ...

    def next_page(self, budget: Budget) -> Results:
        """The next rows of the suspended statement, on its snapshot, with its own figures. What raises ends it."""
        ...

    def let_go(self) -> None:
        """End the suspended statement, if there is one."""
        ...

    def run_short(self, runs: Sequence[Short], bounds: ShortBounds) -> "list[Results | Failed | NotShort]":
        """Run each by itself, all on one snapshot. Where one fails, what `run` would raise stands in its place.

        Results are whole. Nothing asks for more; none is begun after `total_s`.
        """
        ...

    def plan(self, statement: Statement) -> Plan:
        """How the statement would run; it is not run. Raises what it does wrong."""
        ...

    def arm(self) -> None:
        """From now on `interrupt` means the next run."""
        ...

    def interrupt(self) -> None:
        """End the run under way, or the next one, with QueryInterrupted; from any thread."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


class Writer(Reader, Protocol):
    """The one connection of a file that writes. Runs between `begin` and `commit` are durable together."""

    def begin(self) -> None:
        """Begin a transaction."""
        ...

    def run(self, statements: Sequence[Statement], budget: Budget) -> Results:
        """All statements or none, within the transaction; what raises undoes this run alone."""
        ...

    def run_short(self, runs: Sequence[Short], bounds: ShortBounds) -> "list[Results | Failed | NotShort]":
        """Run each by itself within the transaction: what fails undoes itself alone."""
        ...

    @property
    def in_transaction(self) -> bool:
        """Whether the transaction is still there: a statement may end it as a whole."""
        ...

    def charge(self, charges: Sequence[Charge]) -> dict[Charge, int]:
        """Add units to the usage rows; returns each row's total."""
        ...

    def commit(self) -> None:
        """Durable on return. A failure here leaves the outcome unknown."""
        ...

    def roll_back(self) -> None:
        """Undo the transaction; no harm where there is none."""
        ...

    def storage_bytes(self) -> int:
        """Pages of the file times their size, as the transaction sees it."""
        ...

    def usage(self) -> list[Charge]:
        """Every usage row of the file."""
        ...

    def forget(self, store: str, epoch: int, lease_ids: Sequence[int] | None) -> None:
        """Remove usage rows, of these leases or of the whole epoch; durable on return, outside of transactions."""
        ...

    @property
    def wal_frames(self) -> int:
        """Frames of the WAL after this connection's latest commit; 0 before there was one."""
        ...

    def checkpoint(self) -> None:
        """Copy the WAL back. Nothing else ever does: who ships the WAL reads its frames before."""
        ...

    def free_bytes(self) -> int:
        """Free pages of the file times their size: what `shrink` would give back."""
        ...

    def shrink(self) -> bool:
        """Give some free pages back to the disk, in a transaction of its own; whether any are left."""
        ...


class Engine(Protocol):
    """How files are created and opened. A process has one engine, and with it one SQLite library."""

    #: Whether rows read are counted exactly; where not, a cap on them is refused.
    rows_read_exact: bool

    @property
    def library(self) -> Library[Connection]:
        """The same library for files of our own."""
        ...

    def create(self, path: Path) -> int:
        """A new, empty, durable file; its bytes. One that is there already stays."""
        ...

    def open_reader(self, path: Path) -> Reader:
        """A connection that reads. Raises StoreUnavailable where there is no such file."""
        ...

    def open_writer(self, path: Path) -> Writer:
        """The connection that writes; nobody else may have the file open for writing."""
        ...

    def copy(self, source: Path, target: Path) -> None:
        """Copy a file as of one moment into a new one, durably, while others read and write it."""
        ...

    def problems(self, path: Path) -> list[str]:
        """What SQLite's own check finds wrong with a file that nobody else has open; empty where it is whole."""
        ...


class Tombstoned(Exception):
    """The service of a database that was to be created is purged."""


class NameTaken(Exception):
    """The service has another database of this name."""


class Catalog(Protocol):
    """Which databases exist, and the generation each is at. Durable on return."""

    async def create(self, database: Database, storage_bytes: int) -> None:
        """Add it; idempotent by id. Raises Tombstoned, checked in the same transaction, and NameTaken."""
        ...

    async def find(self, service_id: str, ref: str) -> Database | None:
        """The service's database with this id or name."""
        ...

    async def databases(self, service_id: str) -> list[Database]:
        """The service's databases by name."""
        ...

    async def drop(self, database: Database) -> None:
        """It is gone for everyone; its files remain to be removed. Idempotent."""
        ...

    async def dropped(self) -> list[Database]:
        """Dropped databases that are not forgotten."""
        ...

    async def forget(self, database: Database) -> None:
        """Remove the last trace of a dropped database."""
        ...

    async def entomb(self, service_id: str) -> list[Database]:
        """From now on nothing is created in the service; returns the databases it still has."""
        ...

    async def mark(self, database: Database) -> None:
        """From now on the file may hold usage rows, or have another size, than the catalog knows."""
        ...

    async def close(self) -> None:
        """Let go of the catalog."""
        ...
