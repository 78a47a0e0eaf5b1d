"""SQLite with row counters: one tenant's file, whole batches per call, without the GIL. What is counted stands in
native/README.md.

Threads: every call may come from any thread; a connection does one thing at a time and the rest wait. No call holds
the GIL while SQLite runs.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal

VERSION: Final[str]
"""SQLite's version, "3.54.1"."""

INTERFACE: Final[int]
"""Rises whenever something here changes. A build of another number is not used: run `make native` again."""

HIDDEN_PREFIX: Final[str]
"""Names beginning so ("_tovuk_") are ours: a tenant's statement can neither read, write, make, rename, list nor drop
them."""

Meter = Literal["rows_read", "rows_written"]
Kind = Literal[
    "syntax",  # also unknown tables and columns, wrong argument counts: whatever SQLite says while preparing
    "several_statements",  # more than one statement in one sql text
    "empty",  # no statement in the text
    "parameters",
    "page",  # a result beyond its page, of a statement that writes or of a run that wants results whole
    "text",  # a text in a result is not UTF-8
    "denied",  # the authorizer's refusal: ATTACH, transactions, pragmas, our own tables
    "constraint",
    "mismatch",  # a value's type does not fit (datatype mismatch)
    "rows_read",  # the budget ended in the middle; everything was rolled back
    "rows_written",
    "deadline",
    "interrupted",
    "too_big",  # a value, statement or result row above its limit
    "memory",  # the run's own bound (memory_bytes_max), or the machine's
    "page_cap",  # the file needs more pages than it may have
    "temp_full",  # the bound on temporary files
    "full",  # the disk
    "busy",
    "readonly",
    "corrupt",
    "io",
    "runtime",  # everything else SQLite refuses while running (integer overflow, malformed JSON, RAISE)
]

Value = None | bool | int | float | str | bytes
Parameters = Sequence[Value] | Mapping[str, Value]
"""Positional, or named (with or without the leading `:`, `@` or `$`). Too few or too many: kind "parameters"."""

class SqliteError(Exception):
    """A statement failed. The whole run is rolled back; what was read before counts."""

    kind: Kind
    message: str
    code: int
    """SQLite's primary code (19), 0 where SQLite was not asked."""
    extended_code: int
    name: str
    """"SQLITE_CONSTRAINT_UNIQUE"."""
    offset: int | None
    """Byte offset in the UTF-8 text of the statement."""
    constraint: str | None
    """What failed: "users.email" (UNIQUE, NOT NULL, PRIMARY KEY), the constraint's name or text (CHECK), None
    (FOREIGN KEY)."""
    statement: int
    """Index in the batch."""
    rows_read: int
    """By the whole run until it stopped: to be charged. Never above rows_read_max plus what `more` granted."""
    transaction_lost: bool
    """SQLite rolled back the transaction the run was part of as well (disk full, I/O error): its other parts are to
    be run again."""

class Interrupt:
    """Stops the run it is given to, from any thread, before or while it runs."""

    def __init__(self) -> None: ...
    def set(self) -> None: ...

class Result:
    """What one statement did."""

    columns: list[str]
    rows: bytes
    """A JSON array of arrays, UTF-8: null, integers, reals (always with a point or exponent; infinities {"real":
    "inf"|"-inf"}), strings,
    {"base64": …} for blobs."""
    content: bytes
    """All of it as a JSON object, as answers have it: columns, rows, rowCount, rowsRead, rowsWritten, vmSteps,
    fullscanSteps, changes, and lastInsertRowid, 0 where nothing changed."""
    row_count: int
    complete: bool
    """False: the page is full and rows are left (`next_page`, if the run was resumable)."""
    rows_read: int
    rows_written: int
    vm_steps: int
    fullscan_steps: int
    sort_count: int
    autoindex_rows: int
    changes: int
    last_insert_rowid: int
    readonly: bool

class Ran:
    """What the statements of one run of `run_many` did, together."""

    content: bytes
    """Each one's, with commas between."""
    row_count: int
    """Of the last one."""
    rows_read: int
    rows_written: int
    vm_steps: int
    fullscan_steps: list[int]
    """Of each."""
    changes: int

class PlanStep:
    """One line of EXPLAIN QUERY PLAN."""

    detail: str
    table: str | None
    access: Literal["scan", "search", "other"]
    index: str | None
    rows: int | None
    """Estimated rows read each time the step is entered: from ANALYZE's statistics where there are some, else from
    the table's largest rowid."""

class Estimate:
    steps: list[PlanStep]
    scans: bool
    """Some step reads a whole table or index."""
    rows_read: int
    """The product over nested steps, as far as it can be known beforehand."""
    readonly: bool
    parameter_count: int

class Connection:
    """One connection to one file. Nothing but this file, its WAL and bounded temporary files can be opened through it.

    WAL, synchronous=FULL, mmap off, foreign keys on, defensive, untrusted schema, no automatic checkpoints, none at
    close.
    """

    def __init__(
        self,
        path: str,
        *,
        create: bool = False,
        readonly: bool = False,
        cache_bytes: int = 2_097_152,
        variables_max: int = 32_766,
        sql_bytes_max: int = 100_000,
        value_bytes_max: int = 10_485_760,
        memory_bytes_max: int = 134_217_728,
        temp_bytes_max: int = 1_073_741_824,
        busy_timeout_ms: int = 5_000,
    ) -> None:
        """Opens the file. `readonly` refuses writes (PRAGMA query_only) but takes part in the WAL as any reader.
        A file that is made can give free pages back (`PRAGMA incremental_vacuum`, trusted).

        Raises SqliteError ("io", "corrupt", "busy").
        """

    def run(
        self,
        statements: Sequence[tuple[str, Parameters]],
        *,
        trusted: bool = False,
        rows_read_max: int | None = None,
        rows_written_max: int | None = None,
        more: Callable[[Meter, int], int] | None = None,
        deadline_ms: float | None = None,
        interrupt: Interrupt | None = None,
        page_rows_max: int = 10_000,
        page_bytes_max: int = 10_485_760,
        resumable: bool = False,
        whole: bool = False,
        skip_rows: int = 0,
        pages_max: int = 0,
    ) -> list[Result]:
        """Runs all statements or none: a transaction of its own, or a savepoint of the one `begin` opened.

        `trusted`: our own statements (hidden tables, any pragma), never a tenant's text; unmetered tables of
        ours count like others. `more(meter, used)` is asked (with the GIL, in this thread) when a budget is
        used up in the middle of a statement and answers how many units more there are, 0 for none.
        `deadline_ms` counts from the call.

        A page's bounds hold for each statement's rows and for the bytes of all contents; a statement that only reads
        stops there, unless `whole`; what does not fit else fails ("page"). `skip_rows` of each reading
        statement are read and passed over. `resumable`: one reading statement outside of a transaction; if its
        page is not the last, the statement stays open with its snapshot for `next_page`. `pages_max`: what the
        file may have from now on; 0 leaves it. It is never below what the file has.

        Raises SqliteError.
        """

    def run_many(
        self,
        runs: Iterable[tuple[Sequence[tuple[str, Parameters]], int, int]],
        *,
        each_ms: float,
        total_ms: float,
        page_rows_max: int = 10_000,
        page_bytes_max: int = 10_485_760,
        pages_max: int = 0,
    ) -> list[Ran | SqliteError | None]:
        """Short runs, each by itself, all of its statements or none: (statements, rows_read_max, rows_written_max).

        Within the open transaction, each in a savepoint; on a `readonly` connection outside of one, within one
        snapshot. A run may take `each_ms`; those that `total_ms` leaves no time for are not begun: None. Results
        are whole; a page's bounds hold as for `run`. What fails stands in the list.

        Raises SqliteError where the snapshot cannot be had, RuntimeError for a writer outside of a transaction.
        """

    def next_page(
        self,
        *,
        rows_read_max: int | None = None,
        more: Callable[[Meter, int], int] | None = None,
        deadline_ms: float | None = None,
        interrupt: Interrupt | None = None,
        page_rows_max: int = 10_000,
        page_bytes_max: int = 10_485_760,
    ) -> Result:
        """The suspended statement's next rows; rows_read and so on are this page's own. RuntimeError where nothing is
        suspended."""

    def close_cursor(self) -> None:
        """Ends the suspended statement and its snapshot, if there is one."""

    @property
    def suspended(self) -> bool: ...
    @property
    def in_transaction(self) -> bool: ...
    def begin(self, *, immediate: bool = True) -> None: ...
    def commit(self) -> None:
        """Durable on return. On failure the transaction is rolled back, and SqliteError says why."""

    def rollback(self) -> None: ...
    def savepoint(self) -> None:
        """Opens one more level inside the transaction."""

    def release(self) -> None:
        """Keeps what happened since the innermost `savepoint`."""

    def rollback_to(self) -> None:
        """Undoes what happened since the innermost `savepoint`, and closes it."""

    def estimate(self, sql: str) -> Estimate:
        """How a tenant's statement would run. Nothing is run. Raises SqliteError as `run` would while preparing."""

    def backup(
        self,
        to_path: str,
        *,
        pages_per_step: int = 512,
        pause_ms: int = 0,
        interrupt: Interrupt | None = None,
    ) -> int:
        """Copies the database as of one moment into a new file (synced, without a WAL), while others read and write;
        answers its pages.

        Writes through this very connection are carried into the copy; writes through another start it again. An
        existing file is refused.
        """

    def integrity_check(self) -> list[str]:
        """What is wrong, a line each; empty if nothing. Foreign keys included."""

    def checkpoint(self, mode: Literal["passive", "full", "restart", "truncate"] = "passive") -> tuple[int, int]:
        """(frames in the WAL, frames in the database). Only here are frames moved: who ships the WAL reads it first.
        SqliteError "busy" where others are in the way."""

    @property
    def wal_frames(self) -> int:
        """Frames in the WAL after this connection's latest commit or checkpoint; 0 before."""

    @property
    def storage_bytes(self) -> int:
        """Page count × page size, the running transaction's included."""

    def close(self) -> None: ...

class OwnConnection:
    """A connection to a file of ours: any statement, nothing metered, hidden or bounded, rows as Python's objects. The
    file is made where there is none. Settings are SQLite's own; nothing but this file can be opened through it.
    """

    def __init__(self, path: str, *, busy_timeout_ms: int = 5_000) -> None:
        """Raises SqliteError ("io", "corrupt", "busy")."""

    def rows(self, sql: str, parameters: Parameters) -> list[tuple[Any, ...]]:
        """Runs every statement of the text to its end, each with all of the parameters; the rows of all. What one that
        fails leaves of those before it is the open transaction's matter.

        Raises SqliteError; "io" where the connection is closed.
        """

    def set_wal_hook(self, hook: Callable[[Any, str, int], int] | None, /) -> None:
        """Called after each commit that wrote, once SQLite is done, with the connection, "main" and the frames in the
        WAL. From now on SQLite moves no frames by itself, but at the close of the last connection."""

    @property
    def in_transaction(self) -> bool: ...
    def changes(self) -> int:
        """The rows the last INSERT, UPDATE or DELETE changed."""

    def total_changes(self) -> int:
        """The rows changed since the connection was opened."""

    def last_insert_rowid(self) -> int: ...
    def close(self, force: bool = False, /) -> None:
        """Nothing keeps it from closing, forced or not."""
