"""The engine of stock SQLite: exact in rows written by tables, not in rows read, for which no stock build has counters.

Hot path: a prepared statement runs in some 10 µs. Rows written are counted by the preupdate hook, one for each row of a
table; rows read are the steps of full scans or the rows of the result, whichever is more.
"""

import contextlib
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import apsw

from tovuk_kit.errors import Outcome, StoreUnavailable, TovukError
from tovuk_kit.files import make_folder, sync_folder
from tovuk_kit.sqlite_apsw import ApswLibrary
from tovuk_kit.sqlite_errors import Failure, translated
from tovuk_kit.sqlite_library import fault
from tovuk_sqlite.errors import (
    ParametersInvalid,
    QueryInterrupted,
    QueryTooSlow,
    ResultTooLarge,
    SeveralStatements,
    SqlConstraint,
    SqlFailed,
    SqlSyntax,
    StatementDenied,
    StatementEmpty,
    TextInvalid,
    TooManyParameters,
)
from tovuk_sqlite.limits import PARAMETER_ENTRIES_MAX_ELSE, QUERY_SECONDS_MAX, STATEMENT_BYTES_MAX, VALUE_BYTES_MAX
from tovuk_sqlite.store import copies
from tovuk_sqlite.store.base import (
    Bound,
    Budget,
    Charge,
    Exhausted,
    Failed,
    NotARead,
    NotShort,
    Plan,
    Reader,
    Results,
    Short,
    ShortBounds,
    Statement,
    Writer,
)
from tovuk_sqlite.store.guard import CREATE_VISIBLE_SCHEMA, Guard, visible
from tovuk_sqlite.store.own import (
    CHARGE,
    CONSTRAINTS,
    CREATE_USED,
    OWN_PREFIX,
    PAGES_MAX,
    READ_USED,
    SHRINK_PAGES,
    forgetting,
    is_syntax,
)
from tovuk_sqlite.store.rows import Page, content

_LIBRARY: Final = ApswLibrary()

#: Steps of the virtual machine between two looks at the budget; some tenths of a millisecond.
_LOOK_STEPS: Final = 5_000
#: Pages of a copy between two looks at whether it is done.
_COPY_PAGES: Final = 4_096

_LIMITS: Final = {
    apsw.SQLITE_LIMIT_LENGTH: VALUE_BYTES_MAX,
    # The view's name may be longer than what it replaces.
    apsw.SQLITE_LIMIT_SQL_LENGTH: 2 * STATEMENT_BYTES_MAX,
    apsw.SQLITE_LIMIT_ATTACHED: 0,
    apsw.SQLITE_LIMIT_TRIGGER_DEPTH: 100,
    apsw.SQLITE_LIMIT_WORKER_THREADS: 0,
    apsw.SQLITE_LIMIT_FUNCTION_ARG: 127,
}
_CONFIG: Final = (
    (apsw.SQLITE_DBCONFIG_DEFENSIVE, 1),
    (apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0),
    (apsw.SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0),
    (apsw.SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, 0),
    (apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1),
)
_PRAGMAS: Final = (
    "synchronous = FULL",
    "fullfsync = ON",
    "checkpoint_fullfsync = ON",
    "wal_autocheckpoint = 0",
    "mmap_size = 0",
    "cache_size = -4096",
    # Sorting a table larger than memory must not need its size in memory; the files have no names.
    "temp_store = FILE",
    "foreign_keys = ON",
)
_CREATE: Final = (
    "auto_vacuum = INCREMENTAL",
    "journal_mode = WAL",
    "synchronous = FULL",
)
_FOREIGN_NAMES: Final = (
    f"SELECT count(*) FROM main.sqlite_schema WHERE substr(lower(name), 1, {len(OWN_PREFIX)}) = '{OWN_PREFIX}'"
    " AND name <> '_tovuk_used'"
)
_BLANK: Final = re.compile(r"(?>\s|;|--[^\n]*|/\*.*?(?:\*/|\Z))*", re.DOTALL)


class StockEngine:
    """The Engine of apsw's own SQLite."""

    rows_read_exact = False
    library = _LIBRARY

    def create(self, path: Path) -> int:
        make_folder(path.parent)
        with _faults(), contextlib.closing(apsw.Connection(str(path))) as connection:
            for pragma in _CREATE:
                connection.execute(f"PRAGMA {pragma}").fetchall()
            connection.execute(CREATE_USED)
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            size = int(connection.pragma("page_count")) * int(connection.pragma("page_size"))
        sync_folder(path.parent)
        return size

    def open_reader(self, path: Path) -> Reader:
        return _Connection(path, writes=False)

    def open_writer(self, path: Path) -> Writer:
        return _Connection(path, writes=True)

    def copy(self, source: Path, target: Path) -> None:
        with (
            _faults(),
            copies.syncing(target),
            contextlib.closing(apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READWRITE)) as origin,
            contextlib.closing(apsw.Connection(str(target))) as copy,
        ):
            # The WAL stays, even if nobody else has the file open: not all of it may be shipped.
            origin.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            # One snapshot: without it the copy would begin again with each write of the writer.
            origin.execute("BEGIN")
            origin.execute("SELECT count(*) FROM sqlite_schema").fetchall()
            with copy.backup("main", origin, "main") as backup:
                while not backup.done:
                    backup.step(_COPY_PAGES)

    def problems(self, path: Path) -> list[str]:
        try:
            with _faults(), contextlib.closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)) as file:
                found = [str(row[0]) for row in file.execute("PRAGMA integrity_check(100)")]
        except StoreUnavailable as error:
            return [str(error.__cause__)]
        return [] if found == ["ok"] else found


class _Connection:
    """A reader, or the writer, of one file."""

    def __init__(self, path: Path, *, writes: bool) -> None:
        self._guard = Guard()
        self._stop: TovukError | Exhausted | None = None
        self._budget: Budget | None = None
        self._interrupted = False
        self._running = False
        self._written = self._read = 0
        self._rows_read = self._rows_written = 0
        self._wal_frames = 0
        self._steps = self._scanned = 0
        self._index = 0
        self._text = ""
        self._first = ""
        self._columns: tuple[str, ...] = ()
        self._readonly = True
        self._writes = writes
        with _faults():
            self._sql = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, statementcachesize=128)
            self._sql.set_busy_timeout(5_000)
            for pragma in _PRAGMAS:
                self._own(f"PRAGMA {pragma}")
            self._own(CREATE_VISIBLE_SCHEMA)
            if not writes:
                self._own("PRAGMA query_only = ON")
            for option, value in _CONFIG:
                self._sql.config(option, value)
            for limit, bound in _LIMITS.items():
                self._sql.limit(limit, bound)
        self._page_bytes = int(self._own("PRAGMA page_size")[0][0])
        self._sql.authorizer = self._guard
        self._sql.set_progress_handler(self._look, _LOOK_STEPS)
        self._sql.trace_v2(apsw.SQLITE_TRACE_PROFILE, self._profile)
        if writes:
            self._sql.preupdate_hook(self._count)
            self._sql.set_wal_hook(self._committed)

    # Tenant SQL.

    def run(self, statements: Sequence[Statement], budget: Budget) -> Results:
        self._budget, self._stop, self._written = budget, None, 0
        self._rows_read, self._rows_written, self._read = budget.rows_read, budget.rows_written, 0
        self._own("SAVEPOINT run" if self._writes else "BEGIN")
        if not self._writes:
            # SQLite compares the schema it knows with the file's, else some errors would be told of the one before.
            self._own("SELECT 1 FROM main.sqlite_schema LIMIT 0")
        # What an earlier run inserted is none of this one's.
        self._sql.set_last_insert_rowid(0)
        if self._writes:
            self._own(f"PRAGMA max_page_count = {max(1, budget.file_bytes // self._page_bytes)}")
        self._running = True
        try:
            results = self._run_all(statements, budget)
        except BaseException:
            self._running = False
            if self._sql.in_transaction:
                self._own("ROLLBACK TO run" if self._writes else "ROLLBACK")
                if self._writes:
                    self._own("RELEASE run")
            raise
        self._running = False
        self._own("RELEASE run" if self._writes else "COMMIT")
        return results

    @property
    def rows_read(self) -> int:
        return min(self._read + self._scanned, self._rows_read)

    @property
    def suspended(self) -> bool:
        return False

    def next_page(self, budget: Budget) -> Results:
        raise AssertionError("this engine suspends nothing")

    def let_go(self) -> None:
        """Nothing is ever suspended."""

    def run_short(self, runs: Sequence[Short], bounds: ShortBounds) -> list[Results | Failed | NotShort]:
        ends_at_s = time.monotonic() + bounds.total_s
        ended: list[Results | Failed | NotShort] = []
        for run in runs:
            now = time.monotonic()
            # A statement may have ended the transaction: what followed would commit by itself.
            lost = self._writes and not self.in_transaction
            over = lost or (ended and now > ends_at_s)
            ended.append(NotShort(begun=False) if over else self._short(run, bounds, now))
        return ended

    def _short(self, run: Short, bounds: ShortBounds, now: float) -> Results | Failed | NotShort:
        budget = Budget(
            run.rows_read,
            run.rows_written,
            _no_more,
            bounds.file_bytes,
            now + bounds.each_s,
            bounds.result_rows,
            bounds.result_bytes,
            PARAMETER_ENTRIES_MAX_ELSE,
            whole=True,
        )
        try:
            return self.run([Statement(*one) for one in run.statements], budget)
        except (QueryTooSlow, ResultTooLarge):
            return NotShort(begun=True)
        except Exhausted as exhausted:
            if exhausted.bound is not Bound.FILE_BYTES:
                return NotShort(begun=True)
            return Failed(exhausted, self.rows_read)
        except (TovukError, NotARead) as error:
            return Failed(error, self.rows_read)

    def _run_all(self, statements: Sequence[Statement], budget: Budget) -> Results:
        results: list[Results] = []
        read = written = size = 0
        for index, statement in enumerate(statements):
            result = self._run_one(index, statement, budget, budget.result_bytes - size)
            results.append(result)
            read += result.rows_read
            written += result.rows_written
            size += len(result.content)
            self._read, self._scanned = read, 0
            while read > self._rows_read:
                self._extend(Bound.ROWS_READ, read)
            while written > self._rows_written:
                self._extend(Bound.ROWS_WRITTEN, written)
        return Results(
            b",".join(result.content for result in results),
            read,
            written,
            sum(result.vm_steps for result in results),
            [result.fullscan_steps[0] for result in results],
            sum(result.changes for result in results),
            results[-1].row_count,
            results[-1].more,
        )

    def _extend(self, bound: Bound, used: int) -> None:
        """Raises Exhausted when there is no more."""
        assert self._budget is not None
        more = self._budget.more(bound, used)
        if more <= 0:
            raise Exhausted(bound)
        if bound is Bound.ROWS_READ:
            self._rows_read += more
        else:
            self._rows_written += more

    def _run_one(self, index: int, statement: Statement, budget: Budget, bytes_max: int) -> Results:
        params = self._checked(index, statement, budget)
        skip = budget.skip_rows
        page = Page(budget.result_rows, bytes_max, whole=budget.whole)
        written_before, changes_before = self._written, self._sql.total_changes()
        self._steps = self._scanned = 0
        self._columns, self._first, self._text = (), "", visible(statement.sql)
        self._index = index
        self._guard.begin()
        cursor = self._sql.cursor()
        cursor.exec_trace = self._started
        try:
            if time.monotonic() > budget.ends_at_s:
                raise QueryTooSlow(limit_seconds=QUERY_SECONDS_MAX)
            for row in cursor.execute(self._text, params):
                if not page.count:
                    # Prepared anew: the schema has changed since it was prepared, and with it the columns.
                    self._columns = tuple(name for name, *_ in cursor.description)
                if self._guard.lists_tables and (row[0] == "temp" or row[1].startswith(OWN_PREFIX)):
                    continue
                if skip:
                    skip -= 1
                elif not page.add(row):
                    if self._readonly and not budget.whole:
                        break
                    raise _too_large(index, budget)
        except Exception as error:  # everything is told as the fact it is
            self._guard.on = False
            raise self._told(index, error) from error
        finally:
            self._guard.on = False
            cursor.close(True)
        if self._guard.changes_schema and self._own(_FOREIGN_NAMES)[0][0]:
            # The authorizer is not told the name a table is altered to.
            raise StatementDenied(statement=index, detail=f"names that begin with {OWN_PREFIX} are the platform's")
        # SQLite's own figure stands still where a statement changes nothing; rows of triggers are not in it.
        changes = self._sql.changes() if self._sql.total_changes() != changes_before else 0
        read = max(self._scanned, page.count + budget.skip_rows)
        written = self._written - written_before
        figures = {
            "rowsRead": read,
            "rowsWritten": written,
            "vmSteps": self._steps,
            "fullscanSteps": self._scanned,
            "changes": changes,
            "lastInsertRowid": self._sql.last_insert_rowid() if changes else 0,
        }
        told = content(self._columns, page, figures)
        return Results(told, read, written, self._steps, [self._scanned], changes, page.count, page.full)

    def _checked(self, index: int, statement: Statement, budget: Budget) -> Any:
        if _BLANK.fullmatch(statement.sql):
            raise StatementEmpty(statement=index)
        if len(statement.params) > budget.params:
            raise TooManyParameters(statement=index, limit=budget.params)
        if isinstance(statement.params, Mapping):
            return dict(statement.params)
        return tuple(statement.params)

    def _started(self, cursor: apsw.Cursor, sql: str, bindings: object) -> bool:
        """Called before a statement's first step."""
        if self._first:
            # A comment after the statement is a statement to apsw.
            return _BLANK.fullmatch(sql) is not None
        self._first = sql
        self._columns = tuple(name for name, _ in cursor.get_description())
        self._readonly = cursor.is_readonly
        rest = self._text[len(sql) :]
        if not _BLANK.fullmatch(rest):
            self._stop = SeveralStatements()
            return False
        if not self._writes and not cursor.is_readonly:
            raise NotARead
        if isinstance(bindings, dict):
            for name in bindings.keys() - set(cursor.bindings_names):
                raise ParametersInvalid(statement=self._index, reason=f"it has no {name}")
        return True

    def _look(self) -> bool:
        """Whether the statement has to end; called every few thousand steps."""
        budget = self._budget
        if not self._running or budget is None:
            return False
        if self._interrupted:
            self._stop = QueryInterrupted(retry_after_ms=1_000)
        elif time.monotonic() > budget.ends_at_s:
            self._stop = QueryTooSlow(limit_seconds=QUERY_SECONDS_MAX)
        try:
            while self._written > self._rows_written:
                self._extend(Bound.ROWS_WRITTEN, self._written)
        except Exhausted as exhausted:
            self._stop = exhausted
        return self._stop is not None

    def _count(self, _update: apsw.PreUpdate) -> None:
        if self._running:
            self._written += 1

    def _committed(self, _connection: apsw.Connection, _name: str, frames: int) -> int:
        self._wal_frames = frames
        return apsw.SQLITE_OK

    def _profile(self, event: dict[str, Any]) -> None:
        status = event["stmt_status"]
        self._steps += status["SQLITE_STMTSTATUS_VM_STEP"]
        self._scanned += status["SQLITE_STMTSTATUS_FULLSCAN_STEP"]

    def _told(self, index: int, error: Exception) -> Exception:
        """The fact behind what apsw raised."""
        if isinstance(error, NotARead | Exhausted | TovukError):
            return error
        stop, self._stop = self._stop, None
        if isinstance(stop, SeveralStatements):
            return SeveralStatements(statement=index)
        if stop is not None:
            return stop
        detail = str(error)
        if self._guard.detail:
            return StatementDenied(statement=index, detail=self._guard.detail)
        match error:
            case apsw.InterruptError():
                return QueryInterrupted(retry_after_ms=1_000)
            case apsw.ConstraintError():
                kind = CONSTRAINTS.get(_code_name(error), "constraint")
                return SqlConstraint(statement=index, constraint=kind, detail=detail)
            case apsw.BindingsError():
                counts = re.search(r"uses (\d+) and there are (-?\d+)", detail)
                reason = f"it takes {counts[1]}, {counts[2]} were sent" if counts else "their number is wrong"
                return ParametersInvalid(statement=index, reason=reason)
            case KeyError():
                return ParametersInvalid(statement=index, reason=f"{error.args[0]} is missing")
            case UnicodeDecodeError():
                return TextInvalid(statement=index)
            case UnicodeEncodeError() | OverflowError() | TypeError() | ValueError():
                return ParametersInvalid(statement=index, reason="a value is no value of SQL")
            case apsw.FullError() if self._at_page_cap():
                return Exhausted(Bound.FILE_BYTES)
            case apsw.ReadOnlyError() if not self._writes:
                return NotARead()
            case apsw.SQLError() if is_syntax(detail):
                return SqlSyntax(statement=index, offset=getattr(error, "error_offset", -1), detail=detail)
            case apsw.Error() if fault(_LIBRARY, error):
                return _fault(error)
            case apsw.Error():
                return SqlFailed(statement=index, detail=detail)
        return error

    def _at_page_cap(self) -> bool:
        budget = self._budget
        return budget is not None and budget.file_bytes < 2**62

    def plan(self, statement: Statement) -> Plan:
        budget = Budget(0, 0, _no_more, 2**62, time.monotonic() + QUERY_SECONDS_MAX, 1, 1, 2**15)
        params = self._checked(0, statement, budget)
        self._text, self._first, self._stop, self._budget = visible(statement.sql), "", None, budget
        self._guard.begin()
        cursor = self._sql.cursor()
        try:
            steps = [str(row[3]) for row in cursor.execute(f"EXPLAIN QUERY PLAN {self._text}", params)]
        except Exception as error:  # everything is told as the fact it is
            self._guard.on = False
            raise self._told(0, error) from error
        finally:
            self._guard.on = False
            cursor.close(True)
        scans = tuple(
            match[1] for step in steps if (match := re.match(r"SCAN (\S+)(?! .*(?:VIRTUAL TABLE|CONSTANT ROW))", step))
        )
        estimated = 0
        for table in scans:
            with contextlib.suppress(apsw.SQLError):
                name = table.replace('"', '""')
                estimated += int(self._own(f'SELECT coalesce(max(rowid), 0) FROM main."{name}"')[0][0])
        return Plan(tuple(steps), scans, estimated)

    def arm(self) -> None:
        self._interrupted = False

    def interrupt(self) -> None:
        self._interrupted = True
        if self._running:
            self._sql.interrupt()

    def close(self) -> None:
        self._sql.close(True)

    # Our own.

    def begin(self) -> None:
        with _faults():
            self._own("BEGIN IMMEDIATE")

    @property
    def in_transaction(self) -> bool:
        return bool(self._sql.in_transaction)

    def charge(self, charges: Sequence[Charge]) -> dict[Charge, int]:
        totals: dict[Charge, int] = {}
        with _faults():
            self._own(f"PRAGMA max_page_count = {PAGES_MAX}")
            for charge in charges:
                totals[charge] = int(self._own(CHARGE, charge)[0][0])
        return totals

    def commit(self) -> None:
        try:
            self._own("COMMIT")
        except apsw.ConstraintError as error:
            # A deferred foreign key speaks only now.
            raise SqlConstraint(statement=0, constraint="foreign_key", detail=str(error)) from error
        except apsw.Error as error:
            raise _fault(error, Outcome.UNKNOWN) from error

    def roll_back(self) -> None:
        with _faults():
            if self._sql.in_transaction:
                self._own("ROLLBACK")

    def storage_bytes(self) -> int:
        return int(self._own("PRAGMA page_count")[0][0]) * self._page_bytes

    def usage(self) -> list[Charge]:
        with _faults():
            return [Charge(*row) for row in self._own(READ_USED)]

    def forget(self, store: str, epoch: int, lease_ids: Sequence[int] | None) -> None:
        with _faults():
            self._own("BEGIN IMMEDIATE")
            try:
                for sql, params in forgetting(store, epoch, lease_ids):
                    self._own(sql, params)
            except BaseException:
                self._own("ROLLBACK")
                raise
            self._own("COMMIT")

    @property
    def wal_frames(self) -> int:
        return self._wal_frames

    def checkpoint(self) -> None:
        with _faults():
            self._sql.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def free_bytes(self) -> int:
        with _faults():
            return int(self._own("PRAGMA freelist_count")[0][0]) * self._page_bytes

    def shrink(self) -> bool:
        with _faults():
            self._own(f"PRAGMA incremental_vacuum({SHRINK_PAGES})")
            return self.free_bytes() > 0

    def _own(self, sql: str, params: Sequence[Any] = ()) -> list[Any]:
        """Run a statement of ours: never from the cache, where the tenant's guarded ones are."""
        return self._sql.cursor().execute(sql, params, can_cache=False).fetchall()


def _no_more(_bound: Bound, _used: int) -> int:
    return 0


def _too_large(index: int, budget: Budget) -> ResultTooLarge:
    return ResultTooLarge(statement=index, limit_rows=budget.result_rows, limit_bytes=budget.result_bytes)


def _fault(error: apsw.Error, outcome: Outcome = Outcome.NOT_DONE) -> TovukError:
    """What a failure of the file means to the house."""
    return translated(fault(_LIBRARY, error) or Failure.FAULT, outcome)


@contextlib.contextmanager
def _faults() -> Iterator[None]:
    """Tell what goes wrong with the file."""
    try:
        yield
    except apsw.Error as error:
        raise _fault(error) from error
    except OSError as error:
        raise translated(error) from error


def _code_name(error: apsw.Error) -> str:
    """SQLite's name of the error's extended code."""
    return str(apsw.mapping_extended_result_codes.get(getattr(error, "extendedresult", 0), ""))
