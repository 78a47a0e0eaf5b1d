"""Requests that are done at once, and how it is found out which are: what is not goes by `database`.

Hot path: a read below 12 µs of CPU, a write below 20 µs beside the commit's, a further statement of a batch below 4 µs.
Reads of one turn of the event loop are one call of the engine a database, on the loop's own thread, each cut after a
millisecond; a write joins the next commit of its database. A batch is one such read or write. What turns out not to be
short is undone, not counted, and remembered; of an account that wastes the loop's time with such requests only those
that are known are tried, for a while.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from tovuk_kit.errors import InternalError, Outcome, TovukError
from tovuk_kit.holding import Lease
from tovuk_kit.leases import Meters
from tovuk_sqlite.answer import Facts, batch, single
from tovuk_sqlite.database import ADVICE_ENTRIES, ADVICE_STEPS, Databases
from tovuk_sqlite.directory import Target
from tovuk_sqlite.files import Files
from tovuk_sqlite.gates import Gates
from tovuk_sqlite.limits import (
    BATCH_ENTRIES_MAX,
    NOT_SHORT_SECONDS,
    PARAMETER_ENTRIES_MAX,
    PARAMETER_ENTRIES_MAX_ELSE,
    SHORT_BYTES_MAX,
    SHORT_ENTRIES_MAX,
    SHORT_FURTHER_ENTRIES_MAX,
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
    Params,
    Results,
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
    """What is known of one statement of one database, or of one batch's texts."""

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
class _Asked:
    """A request that is worth a try."""

    database: Database
    short: Short
    #: Whether it is answered with a list of results and totals.
    batch: bool
    known: _Known
    answer: Answer
    began: float = field(default_factory=time.monotonic, init=False)


class Shorts:
    """The short requests of all databases, metered."""

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
        #: By database and the statement's text, or a hash of a batch's: two that share one share a guess.
        self._known: dict[tuple[str, str | int], _Known] = {}
        #: Seconds lost, by account, in the second that began then.
        self._lost: dict[str, float] = {}
        self._lost_since = 0.0
        self._exact = files.engine.rows_read_exact
        #: What this turn has gathered, each with the lease of its rows.
        self._reads: dict[Database, list[tuple[_Asked, Lease]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def read(
        self,
        target: Target,
        plan: str,
        statements: Sequence[tuple[str, Params]],
        answer: Answer,
        *,
        batch: bool = False,
    ) -> None:
        """Answer statements that cannot write, sooner or later."""
        asked = self._promising(target, plan, statements, answer, batch=batch)
        if asked is None:
            answer(_NOT_SHORT)
            return
        lease = self._meters.take(STORE, asked.database.account_id, "sqlite_rows_read", asked.short.rows_read)
        if lease is None:
            answer(_NOT_SHORT)
            return
        self._gather(asked, lease)

    def write(
        self,
        target: Target,
        plan: str,
        statements: Sequence[tuple[str, Params]],
        answer: Answer,
        *,
        batch: bool = False,
    ) -> None:
        """Answer statements that may write when they are durable, all or none."""
        asked = self._promising(target, plan, statements, answer, batch=batch)
        if asked is None or not self._catalog.is_marked(asked.database):
            answer(_NOT_SHORT)
            return
        database = asked.database
        read = Units(self._meters, database.account_id, "sqlite_rows_read", waits=False)
        written = Units(self._meters, database.account_id, "sqlite_rows_written", waits=False)
        room = Room(self._usage, self._meters, database, plan)
        if not self._gates.enter_at_once(database.id):
            # A restore is putting another generation in its place.
            answer(_NOT_SHORT)
            return
        if not (
            read.begin_at_once(asked.short.rows_read)
            and written.begin_at_once(asked.short.rows_written)
            and room.begin_at_once()
        ):
            read.give_back()
            written.give_back()
            self._gates.leave(database.id)
            answer(_NOT_SHORT)
            return
        ended = partial(self._written, asked, read)
        self._databases.writes.submit(database, ShortWrite(written, room, ended, asked.short))

    # Reads.

    def _gather(self, asked: _Asked, lease: Lease) -> None:
        if not self._reads:
            self._loop.call_soon(self._read_all)
        waiting = self._reads.get(asked.database)
        if waiting is None:
            self._reads[asked.database] = [(asked, lease)]
        else:
            waiting.append((asked, lease))

    def _read_all(self) -> None:
        reads, self._reads = self._reads, {}
        for database, waiting in reads.items():
            shorts = [asked.short for asked, _ in waiting]
            ended: Sequence[Results | Failed | NotShort] | None
            try:
                ended = self._files.reading_at_once(database, lambda reader: reader.run_short(shorts, self.bounds))  # noqa: B023  # it is called at once
            except Exception as error:  # noqa: BLE001  # whoever waits gets an answer
                if not isinstance(error, TovukError):
                    _log.exception("reads failed")
                ended = [Failed(error, 0)] * len(waiting)
            if ended is None:
                ended = [Failed(_NOT_SHORT, 0)] * len(waiting)
            for (asked, lease), one in zip(waiting, ended, strict=True):
                if isinstance(one, NotShort) and not one.begun:
                    # There was no time for it in this turn.
                    self._gather(asked, lease)
                else:
                    self._read_ended(asked, lease, one)

    def _read_ended(self, asked: _Asked, lease: Lease, ended: Results | Failed | NotShort) -> None:
        database = asked.database
        rows_read = 0 if isinstance(ended, NotShort) else ended.rows_read
        if rows_read:
            self._meters.count(lease, database.service_id, database.id, rows_read)
        self._meters.release(lease, asked.short.rows_read - rows_read)
        if isinstance(ended, Results):
            self._done(asked, ended, self._usage.size(database))
        elif isinstance(ended, NotShort):
            self._lose(asked)
            asked.answer(_NOT_SHORT)
        else:
            self._failed(ended.error, asked.answer)

    # Writes.

    def _written(self, asked: _Asked, read: Units, write: ShortWrite, ended: Ended) -> None:
        database = asked.database
        self._gates.leave(database.id)
        write.room.end()
        if isinstance(ended, Written):
            self._databases.settle(database, write.units, read, ended)
            self._done(asked, ended.results, ended.storage_bytes)
            return
        if isinstance(ended, TovukError) and ended.outcome is Outcome.UNKNOWN:
            write.units.spend(write.units.held)
        else:
            write.units.give_back()
        read.count(database, write.rows_read)
        if isinstance(ended, NotShort):
            asked.known.was_long()
        self._failed(ended, asked.answer)

    # Either.

    def _promising(
        self, target: Target, plan: str, statements: Sequence[tuple[str, Params]], answer: Answer, *, batch: bool
    ) -> _Asked | None:
        """The request, if it is worth a try."""
        database = self._directory.known(target)
        if database is None or not 1 <= len(statements) <= BATCH_ENTRIES_MAX:
            return None
        params_max = PARAMETER_ENTRIES_MAX.get(plan, PARAMETER_ENTRIES_MAX_ELSE)
        for sql, params in statements:
            if len(sql) > SHORT_SQL_CHARACTERS_MAX or len(params) > params_max:
                return None
        further = len(statements) - 1
        text = hash(tuple([sql for sql, _ in statements])) if further else statements[0][0]
        known = self._of(database, text)
        if known.not_short_until and time.monotonic() < known.not_short_until:
            return None
        if not known.short and self._lost.get(database.account_id, 0.0) > SHORT_LOST_SECONDS_MAX:
            if time.monotonic() - self._lost_since < 1:
                return None
            self._lost.clear()
        more = SHORT_FURTHER_ENTRIES_MAX * further
        short = Short(statements, SHORT_READ_ENTRIES_MAX + more, SHORT_WRITTEN_ENTRIES_MAX + more)
        return _Asked(database, short, batch, known, answer)

    def _of(self, database: Database, text: str | int) -> _Known:
        known = self._known.get((database.id, text))
        if known is None:
            if len(self._known) >= STATEMENT_CACHE_ENTRIES_MAX:
                del self._known[next(iter(self._known))]
            known = self._known[database.id, text] = _Known()
        return known

    def _lose(self, asked: _Asked) -> None:
        """A request took the loop's time in vain."""
        asked.known.was_long()
        now = time.monotonic()
        if now - self._lost_since >= 1:
            self._lost.clear()
            self._lost_since = now
        account_id = asked.database.account_id
        self._lost[account_id] = self._lost.get(account_id, 0.0) + self.bounds.each_s

    def _done(self, asked: _Asked, results: Results, size: int) -> None:
        asked.known.short = True
        advice: list[str] = []
        if max(results.fullscan_steps) >= ADVICE_STEPS:
            for known, _ in self._scanning(asked, results):
                if len(advice) >= ADVICE_ENTRIES:
                    break
                if known.advice is None:
                    task = self._loop.create_task(self._advise(asked, results, size))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                    return
                advice += known.advice
        self._tell(asked, results, size, advice)

    async def _advise(self, asked: _Asked, results: Results, size: int) -> None:
        advice: list[str] = []
        try:
            for known, statement in self._scanning(asked, results):
                if len(advice) >= ADVICE_ENTRIES:
                    break
                if known.advice is None:
                    known.advice = await self._databases.advice(asked.database, statement)
                advice += known.advice
        except TovukError as error:
            # The request is done, and its answer is owed.
            _log.info("no advice could be had: %s", error)
        self._tell(asked, results, size, advice)

    def _scanning(self, asked: _Asked, results: Results) -> Iterator[tuple[_Known, Statement]]:
        """The statements whose whole scans are worth advice, and what is known of each."""
        for (sql, params), steps in zip(asked.short.statements, results.fullscan_steps, strict=True):
            if steps >= ADVICE_STEPS:
                yield self._of(asked.database, sql), Statement(sql, params)

    def _tell(self, asked: _Asked, results: Results, size: int, advice: list[str]) -> None:
        tell = batch if asked.batch else single
        asked.answer(tell(results, Facts(self._exact, size, asked.began, advice)))

    @staticmethod
    def _failed(error: Exception, answer: Answer) -> None:
        if isinstance(error, NotARead | NotShort | Exhausted | Fenced):
            answer(_NOT_SHORT)
        else:
            answer(error if isinstance(error, TovukError) else InternalError())
