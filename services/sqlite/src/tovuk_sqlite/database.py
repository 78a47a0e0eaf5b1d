"""What a database guarantees: all statements of a request or none, durable when answered, metered to the row.

A request that only reads runs on a reader, from one snapshot; one that writes runs with others that wait in one commit.
Rows are reserved before and while it runs: it stops in the middle of a statement where none is left.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from tovuk_kit.errors import InternalError, Outcome, StoreUnavailable, TovukError
from tovuk_kit.leases import Meters, UsageSettling
from tovuk_sqlite import answer
from tovuk_sqlite.calls import Call
from tovuk_sqlite.cursor import Place, decode_cursor, encode_cursor
from tovuk_sqlite.directory import Directory, Target
from tovuk_sqlite.errors import BatchTooMany, CursorExpired, DatabaseNotFound, StatementTooLong
from tovuk_sqlite.files import Files
from tovuk_sqlite.gates import Gates
from tovuk_sqlite.limits import (
    BATCH_ENTRIES_MAX,
    PAGE_BYTES_MAX,
    PAGE_ENTRIES_MAX,
    PARAMETER_ENTRIES_MAX,
    PARAMETER_ENTRIES_MAX_ELSE,
    QUERY_SECONDS_MAX,
    SHRINK_BYTES_MIN,
    SHRINK_PERCENT_MIN,
    STATEMENT_BYTES_MAX,
)
from tovuk_sqlite.pages import Pages
from tovuk_sqlite.room import STORAGE, Room
from tovuk_sqlite.store.base import (
    Bound,
    Budget,
    Database,
    Exhausted,
    Fenced,
    NotARead,
    Plan,
    Reader,
    Results,
    Statement,
    Writer,
)
from tovuk_sqlite.store.catalog import SqliteCatalog
from tovuk_sqlite.store.usage import FolderUsage
from tovuk_sqlite.units import STORE, Units, extend_from_thread
from tovuk_sqlite.writes import Ended, LongWrite, Writes, Written

#: How often a write that is set back is tried again before the store is given up.
_ATTEMPTS_MAX = 50
#: Steps of a full scan from which on advice is worth a look at the plan.
ADVICE_STEPS = 100
#: Pieces of advice after which no more is looked for.
ADVICE_ENTRIES = 3
_READS = ("select", "values", "explain", "with", "pragma")


class Databases:
    """The queries of all databases, metered."""

    def __init__(self, catalog: SqliteCatalog, files: Files, usage: FolderUsage, meters: Meters, gates: Gates) -> None:
        self._catalog = catalog
        self._gates = gates
        self._files = files
        self._usage = usage
        self._meters = meters
        self._loop = asyncio.get_running_loop()
        self.writes = Writes(files, usage)
        self.directory = Directory(catalog)
        self.pages = Pages(files)
        #: Commits of each database in this process: what a cursor's pages have in common.
        self._commits: dict[str, int] = {}
        self._incarnation = secrets.token_hex(8)
        #: Since `shrink` looked at them.
        self._written: dict[str, Target] = {}

    async def run(
        self, target: Target, plan: str, statements: Sequence[Statement], *, batch: bool, cursor: str = ""
    ) -> bytes:
        """The answer as JSON. Raises what the request does wrong, and what the meters refuse."""
        self._check(statements)
        database = await self.directory.resolve(target)
        began = time.monotonic()
        state = self._state(database)
        place = Place(0, state)
        if cursor:
            place = decode_cursor(self._catalog.cursor_key, database.id, statements[0], cursor)
        call = Call()
        reads = all(statement.sql.lstrip(" \t\r\n(;").lower().startswith(_READS) for statement in statements)
        try:
            try:
                if not reads:
                    raise NotARead
                results, place = await self._read_on(database, plan, statements, call, place, state, batch=batch)
                size = self._usage.size(database)
            except NotARead:
                await self._gates.enter(database.id)
                try:
                    # A restore may have put another generation in place before.
                    database = await self.directory.resolve(target)
                    written = await self._write(database, plan, statements, call, began, batch=batch)
                finally:
                    self._gates.leave(database.id)
                results, size = written.results, written.storage_bytes
        except asyncio.CancelledError:
            call.leave()
            raise
        return await self._answer(database, statements, results, size, began, place, batch=batch)

    def _state(self, database: Database) -> str:
        return f"{self._incarnation}.{database.generation}.{self._commits.get(database.id, 0)}"

    async def estimate(self, target: Target, statement: Statement) -> bytes:
        """How a statement would run, as JSON; it is not run, and nothing is counted."""
        self._check([statement])
        database = await self.directory.resolve(target)
        return answer.estimate(await self._plan(database, statement), exact=self._files.engine.rows_read_exact)

    async def shrink(self) -> None:
        """Give the free pages of databases that were written back to the disk and the account, where they are many."""
        written, self._written = self._written, {}
        for target in written.values():
            with suppress(DatabaseNotFound):
                database = await self.directory.resolve(target)
                await self._gates.enter(database.id)
                try:
                    # A restore may have put another generation in place before.
                    await self._shrink(await self.directory.resolve(target))
                finally:
                    self._gates.leave(database.id)

    async def _shrink(self, database: Database) -> None:
        if not await self._files.writing(database, _has_much_to_give):
            return
        more = True
        while more:
            # A turn of the writer's each, so that others' writes come between.
            more, size = await self._files.writing(database, _shrunk)
            if self._usage.resize(database, size):
                self._meters.level_changed(STORE, database.account_id, STORAGE)

    async def close(self) -> None:
        """Wait for what is under way."""
        await self.writes.close()

    async def _read_on(
        self,
        database: Database,
        plan: str,
        statements: Sequence[Statement],
        call: Call,
        place: Place,
        state: str,
        *,
        batch: bool,
    ) -> tuple[Results, Place]:
        """The results from a place on, and whence the next page is read."""
        reader = self.pages.take(database, place.page) if place.page else None
        if reader is not None:
            page = await self._read(
                database, plan, call, lambda reader, budget: reader.next_page(budget), reader=reader
            )
            if page is not None:
                return page[0], place._replace(page=page[1])
        if place.state != state:
            raise CursorExpired

        def run(reader: Reader, budget: Budget) -> Results:
            return reader.run(statements, replace(budget, whole=batch, resumable=not batch, skip_rows=place.rows))

        first = await self._read(database, plan, call, run)
        assert first is not None
        if place.rows and state != self._state(database):
            raise CursorExpired
        return first[0], place._replace(page=first[1])

    async def _read(
        self,
        database: Database,
        plan: str,
        call: Call,
        run: Callable[[Reader, Budget], Results],
        *,
        reader: Reader | None = None,
    ) -> tuple[Results, str] | None:
        """What `run` gives, metered, and the page that waits behind it; None where the reader was closed before."""
        units = Units(self._meters, database.account_id, "sqlite_rows_read", waits=True)
        try:
            await units.begin()
        except BaseException:
            if reader is not None:
                self._files.let_go(database, reader)
            raise
        budget = self._budget(plan, units, None, time.monotonic(), batch=False)
        used = 0

        def job(reader: Reader) -> tuple[Results, str]:
            nonlocal used
            with call.on(reader):
                try:
                    results = run(reader, budget)
                finally:
                    used = reader.rows_read
            return results, self.pages.keep(database, reader) if reader.suspended else ""

        try:
            if reader is not None:
                return await self._files.reading_on(database, reader, job)
            return await self._files.reading(database, job)
        except Exhausted as exhausted:
            raise _refused(units) from exhausted
        finally:
            units.count(database, used)

    async def _write(
        self,
        database: Database,
        plan: str,
        statements: Sequence[Statement],
        call: Call,
        began: float,
        *,
        batch: bool,
    ) -> Written:
        await self._catalog.mark(database)
        await self._catalog.note_plan(database.account_id, plan)
        least_read = least_written = 1
        for _ in range(_ATTEMPTS_MAX):
            room = Room(self._usage, self._meters, database, plan)
            read = Units(self._meters, database.account_id, "sqlite_rows_read", waits=False)
            written = Units(self._meters, database.account_id, "sqlite_rows_written", waits=False)
            try:
                await read.begin(least_read)
                await written.begin(least_written)
                await room.begin()
                return await self._attempt(database, plan, statements, call, began, room, read, written, batch=batch)
            except Exhausted as exhausted:
                # Those behind it in the queue, and in other databases, hold units that it wants, and wait for its own.
                if exhausted.bound is Bound.ROWS_READ:
                    least_read = read.held + 1
                else:
                    least_written = written.held + 1
            except Fenced:
                for epoch in self._usage.fence_of_commits.dead(written.epochs):
                    await self._meters.fenced(STORE, epoch)
            finally:
                room.end()
                read.give_back()
                written.give_back()
        raise StoreUnavailable(retry_after_ms=1_000)

    async def _attempt(
        self,
        database: Database,
        plan: str,
        statements: Sequence[Statement],
        call: Call,
        began: float,
        room: Room,
        read: Units,
        written: Units,
        *,
        batch: bool,
    ) -> Written:
        while True:
            budget = self._budget(plan, read, written, began, batch=batch)
            ended: asyncio.Future[Written] = self._loop.create_future()
            write = LongWrite(written, room, partial(_settle_future, ended), statements, budget, call)
            self.writes.submit(database, write)
            try:
                done = await asyncio.shield(ended)
            except asyncio.CancelledError:
                # It may be committing: what it did is to be charged, whoever hears of it.
                call.leave()
                self.settle(database, written, read, await asyncio.shield(ended))
                raise
            except Exhausted as exhausted:
                if exhausted.bound is Bound.FILE_BYTES:
                    await room.grow()
                    continue
                refused = _refused(read if exhausted.bound is Bound.ROWS_READ else written)
                if isinstance(refused, UsageSettling):
                    raise
                read.count(database, write.rows_read)
                raise refused from exhausted
            except TovukError as error:
                read.count(database, write.rows_read)
                if error.outcome is Outcome.UNKNOWN:
                    written.spend(written.held)
                raise
            else:
                self.settle(database, written, read, done)
                return done

    def settle(self, database: Database, written: Units, read: Units, done: Written) -> None:
        """A write is durable: charge what it did."""
        self._commits[database.id] = self._commits.get(database.id, 0) + 1
        self._written[database.id] = Target(database.account_id, database.service_id, database.id)
        written.spend(done.results.rows_written)
        read.count(database, done.results.rows_read)
        self._meters.level_changed(STORE, database.account_id, STORAGE)

    def _budget(self, plan: str, read: Units, written: Units | None, began: float, *, batch: bool) -> Budget:
        ends_at_s = began + QUERY_SECONDS_MAX

        def more(bound: Bound, used: int) -> int:
            units = read if bound is Bound.ROWS_READ or written is None else written
            return extend_from_thread(units, used, self._loop, ends_at_s - time.monotonic())

        return Budget(
            rows_read=read.held,
            rows_written=0 if written is None else written.held,
            more=more,
            file_bytes=0,
            ends_at_s=ends_at_s,
            result_rows=PAGE_ENTRIES_MAX,
            result_bytes=PAGE_BYTES_MAX,
            params=PARAMETER_ENTRIES_MAX.get(plan, PARAMETER_ENTRIES_MAX_ELSE),
            whole=batch,
        )

    async def advice(self, database: Database, statement: Statement) -> list[str]:
        """What would avoid the whole scans of a statement that was run."""
        return answer.advice(statement, await self._plan(database, statement))

    async def _plan(self, database: Database, statement: Statement) -> Plan:
        return await self._files.reading(database, lambda reader: reader.plan(statement))

    async def _answer(
        self,
        database: Database,
        statements: Sequence[Statement],
        results: Results,
        size: int,
        began: float,
        place: Place,
        *,
        batch: bool,
    ) -> bytes:
        actions: list[str] = []
        for statement, steps in zip(statements, results.fullscan_steps, strict=True):
            if steps >= ADVICE_STEPS and len(actions) < ADVICE_ENTRIES:
                actions += await self.advice(database, statement)
        exact = self._files.engine.rows_read_exact
        if batch:
            return answer.batch(results, answer.Facts(exact, size, began, actions))
        cursor = None
        if results.more:
            then = place._replace(rows=place.rows + results.row_count)
            cursor = encode_cursor(self._catalog.cursor_key, database.id, statements[0], then)
            actions.append("Send the same statement with this cursor for the next page.")
        return answer.single(results, answer.Facts(exact, size, began, actions), cursor)

    @staticmethod
    def _check(statements: Sequence[Statement]) -> None:
        if not 1 <= len(statements) <= BATCH_ENTRIES_MAX:
            raise BatchTooMany(limit=BATCH_ENTRIES_MAX)
        for index, statement in enumerate(statements):
            if len(statement.sql.encode()) > STATEMENT_BYTES_MAX:
                raise StatementTooLong(statement=index, limit_bytes=STATEMENT_BYTES_MAX)


def _has_much_to_give(writer: Writer) -> bool:
    return writer.free_bytes() >= max(SHRINK_BYTES_MIN, writer.storage_bytes() * SHRINK_PERCENT_MIN // 100)


def _shrunk(writer: Writer) -> tuple[bool, int]:
    return writer.shrink(), writer.storage_bytes()


def _settle_future(ended: "asyncio.Future[Written]", _: LongWrite, answer: Ended) -> None:
    if ended.done():
        return
    if isinstance(answer, Written):
        ended.set_result(answer)
    else:
        ended.set_exception(answer)


def _refused(units: Units) -> TovukError:
    return units.refusal or InternalError()
