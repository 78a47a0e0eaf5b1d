"""Statements that are done at once, and how it is found out which are: what is not goes by `database`.

Hot path: a read below 12 µs of CPU, a write below 20 µs beside the commit's. Reads of one turn of the event loop are
one call of the engine a database, on the loop's own thread, each cut after a millisecond; a write joins the next commit
of its database. What turns out not to be short is undone, not counted, and remembered; of an account that wastes the
loop's time with such statements only those that are known are tried, for a while.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from tovuk_kit.errors import InternalError, Outcome, TovukError
from tovuk_kit.holding import Lease
from tovuk_kit.leases import Meters
from tovuk_sqlite.answer import Facts, single
from tovuk_sqlite.database import ADVICE_STEPS, Databases
from tovuk_sqlite.directory import Target
from tovuk_sqlite.files import Files
from tovuk_sqlite.gates import Gates
from tovuk_sqlite.limits import (
    NOT_SHORT_SECONDS,
    PARAMETER_ENTRIES_MAX,
    PARAMETER_ENTRIES_MAX_ELSE,
    SHORT_BYTES_MAX,
    SHORT_ENTRIES_MAX,
    SHORT_LOST_SECONDS_MAX,
    SHORT_READ_ENTRIES_MAX,
    SHORT_READ_SECONDS_MAX,
    SHORT_READS_SECONDS_MAX,
    SHORT_SQL_CHARACTERS_MAX,
    SHORT_WRITTEN_ENTRIES_MAX,
    STATEMENT_CACHE_ENTRIES_MAX,
)
from tovuk_sqlite.room import Room
from tovuk_sqlite.store.base import (
    Database,
    Exhausted,
    Failed,
    Fenced,
    NotARead,
    NotShort,
    Result,
    Short,
    ShortBounds,
    Statement,
)
from tovuk_sqlite.store.catalog import SqliteCatalog
from tovuk_sqlite.store.usage import FolderUsage
from tovuk_sqlite.units import STORE, Units
from tovuk_sqlite.writes import Ended, ShortWrite, Written

#: The answer's JSON; NotShort: nothing was done, ask `Databases.run`; else why it failed.
Answer = Callable[[bytes | NotShort | TovukError], None]

_NOT_SHORT = NotShort(begun=False)
#: How far reads may go on the event loop's thread.
READS = ShortBounds(SHORT_READ_SECONDS_MAX, SHORT_READS_SECONDS_MAX, SHORT_ENTRIES_MAX, SHORT_BYTES_MAX)

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Known:
    """What is known of one statement of one database."""

    #: Until when it is not worth a try.
    not_short_until: float = 0.0
    #: It was done at once before.
    short: bool = False
    #: What would avoid its whole scans.
    advice: list[str] | None = None

    def was_long(self) -> None:
        """It took longer than it may: where it did not before, the machine's fault rather than its own, but once."""
        if not self.short:
            self.not_short_until = time.monotonic() + NOT_SHORT_SECONDS
        self.short = False


@dataclass(slots=True, eq=False)
class _Read:
    """A read that waits for the end of this turn."""

    short: Short
    lease: Lease
    known: _Known
    began: float
    answer: Answer


class Shorts:
    """The short statements of all databases, metered."""

    def __init__(
        self,
        databases: Databases,
        catalog: SqliteCatalog,
        files: Files,
        usage: FolderUsage,
        meters: Meters,
        gates: Gates,
        reads: ShortBounds = READS,
    ) -> None:
        self._databases = databases
        self._directory = databases.directory
        self._catalog = catalog
        self._files = files
        self._usage = usage
        self._meters = meters
        self._gates = gates
        #: How far reads may go on the event loop's thread.
        self.bounds = reads
        self._loop = asyncio.get_running_loop()
        self._known: dict[tuple[str, str], _Known] = {}
        #: Seconds lost, by account, in the second that began then.
        self._lost: dict[str, float] = {}
        self._lost_since = 0.0
        self._exact = files.engine.rows_read_exact
        #: What this turn has gathered.
        self._reads: dict[Database, list[_Read]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def read(self, target: Target, plan: str, statement: Statement, answer: Answer) -> None:
        """Answer a statement that cannot write, sooner or later."""
        database = self._directory.known(target)
        known = None if database is None else self._promising(database, plan, statement)
        if database is None or known is None:
            answer(_NOT_SHORT)
            return
        lease = self._meters.take(STORE, database.account_id, "sqlite_rows_read", SHORT_READ_ENTRIES_MAX)
        if lease is None:
            answer(_NOT_SHORT)
            return
        short = Short(statement.sql, statement.params, SHORT_READ_ENTRIES_MAX, 0)
        self._gather(database, _Read(short, lease, known, time.monotonic(), answer))

    def write(self, target: Target, plan: str, statement: Statement, answer: Answer) -> None:
        """Answer a statement that may write when it is durable."""
        database = self._directory.known(target)
        known = None if database is None else self._promising(database, plan, statement)
        if database is None or known is None or not self._catalog.is_marked(database):
            answer(_NOT_SHORT)
            return
        read = Units(self._meters, database.account_id, "sqlite_rows_read", waits=False)
        written = Units(self._meters, database.account_id, "sqlite_rows_written", waits=False)
        room = Room(self._usage, self._meters, database, plan)
        if not self._gates.enter_at_once(database.id):
            # A restore is putting another generation in its place.
            answer(_NOT_SHORT)
            return
        if not (
            read.begin_at_once(SHORT_READ_ENTRIES_MAX)
            and written.begin_at_once(SHORT_WRITTEN_ENTRIES_MAX)
            and room.begin_at_once()
        ):
            read.give_back()
            written.give_back()
            self._gates.leave(database.id)
            answer(_NOT_SHORT)
            return
        short = Short(statement.sql, statement.params, SHORT_READ_ENTRIES_MAX, SHORT_WRITTEN_ENTRIES_MAX)
        ended = partial(self._written, database, known, read, time.monotonic(), answer)
        self._databases.writes.submit(database, ShortWrite(written, room, ended, short))

    # Reads.

    def _gather(self, database: Database, read: _Read) -> None:
        if not self._reads:
            self._loop.call_soon(self._read_all)
        waiting = self._reads.get(database)
        if waiting is None:
            self._reads[database] = [read]
        else:
            waiting.append(read)

    def _read_all(self) -> None:
        reads, self._reads = self._reads, {}
        for database, waiting in reads.items():
            shorts = [read.short for read in waiting]
            ended: Sequence[Result | Failed | NotShort] | None
            try:
                ended = self._files.reading_at_once(database, lambda reader: reader.run_short(shorts, self.bounds))  # noqa: B023  # it is called at once
            except Exception as error:  # noqa: BLE001  # whoever waits gets an answer
                if not isinstance(error, TovukError):
                    _log.exception("reads failed")
                ended = [Failed(error, 0)] * len(waiting)
            if ended is None:
                ended = [Failed(_NOT_SHORT, 0)] * len(waiting)
            for read, one in zip(waiting, ended, strict=True):
                if isinstance(one, NotShort) and not one.begun:
                    # There was no time for it in this turn.
                    self._gather(database, read)
                else:
                    self._read_ended(database, read, one)

    def _read_ended(self, database: Database, read: _Read, ended: Result | Failed | NotShort) -> None:
        rows_read = 0 if isinstance(ended, NotShort) else ended.rows_read
        if rows_read:
            self._meters.count(read.lease, database.service_id, database.id, rows_read)
        self._meters.release(read.lease, SHORT_READ_ENTRIES_MAX - rows_read)
        if isinstance(ended, Result):
            self._done(database, read.short, read.known, ended, self._usage.size(database), read.began, read.answer)
        elif isinstance(ended, NotShort):
            self._lose(database, read.known)
            read.answer(_NOT_SHORT)
        else:
            self._failed(ended.error, read.answer)

    # Writes.

    def _written(
        self,
        database: Database,
        known: _Known,
        read: Units,
        began: float,
        answer: Answer,
        write: ShortWrite,
        ended: Ended,
    ) -> None:
        self._gates.leave(database.id)
        write.room.end()
        if isinstance(ended, Written):
            self._databases.settle(database, write.units, read, ended)
            self._done(database, write.short, known, ended.results[0], ended.storage_bytes, began, answer)
            return
        if isinstance(ended, TovukError) and ended.outcome is Outcome.UNKNOWN:
            write.units.spend(write.units.held)
        else:
            write.units.give_back()
        read.count(database, write.rows_read)
        if isinstance(ended, NotShort):
            known.was_long()
        self._failed(ended, answer)

    # Either.

    def _promising(self, database: Database, plan: str, statement: Statement) -> _Known | None:
        """What is known of a statement that is worth a try."""
        sql = statement.sql
        if len(sql) > SHORT_SQL_CHARACTERS_MAX:
            return None
        if len(statement.params) > PARAMETER_ENTRIES_MAX.get(plan, PARAMETER_ENTRIES_MAX_ELSE):
            return None
        known = self._known.get((database.id, sql))
        if known is None:
            if len(self._known) >= STATEMENT_CACHE_ENTRIES_MAX:
                del self._known[next(iter(self._known))]
            known = self._known[database.id, sql] = _Known()
        if known.not_short_until and time.monotonic() < known.not_short_until:
            return None
        if not known.short and self._lost.get(database.account_id, 0.0) > SHORT_LOST_SECONDS_MAX:
            if time.monotonic() - self._lost_since < 1:
                return None
            self._lost.clear()
        return known

    def _lose(self, database: Database, known: _Known) -> None:
        """A statement took the loop's time in vain."""
        known.was_long()
        now = time.monotonic()
        if now - self._lost_since >= 1:
            self._lost.clear()
            self._lost_since = now
        lost = self._lost.get(database.account_id, 0.0)
        self._lost[database.account_id] = lost + self.bounds.each_s

    def _done(
        self, database: Database, short: Short, known: _Known, result: Result, size: int, began: float, answer: Answer
    ) -> None:
        known.short = True
        advice: list[str] | None = []
        if result.fullscan_steps >= ADVICE_STEPS:
            advice = known.advice
        if advice is None:
            task = self._loop.create_task(self._advise(database, short, known, result, size, began, answer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            answer(single(result, Facts(self._exact, size, began, advice)))

    async def _advise(
        self, database: Database, short: Short, known: _Known, result: Result, size: int, began: float, answer: Answer
    ) -> None:
        advice: list[str] = []
        try:
            advice = known.advice = await self._databases.advice(database, Statement(short.sql, short.params))
        except TovukError as error:
            # The statement is done, and its answer is owed.
            _log.info("no advice could be had: %s", error)
        answer(single(result, Facts(self._exact, size, began, advice)))

    @staticmethod
    def _failed(error: Exception, answer: Answer) -> None:
        if isinstance(error, NotARead | NotShort | Exhausted | Fenced):
            answer(_NOT_SHORT)
        else:
            answer(error if isinstance(error, TovukError) else InternalError())
