"""Writes of one database: those that wait while a commit runs form the next one.

Each is all or nothing by itself; one that fails sinks no other. They are answered when the commit is durable.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tovuk_kit.errors import InternalError, StoreUnavailable, TovukError
from tovuk_sqlite.calls import Call
from tovuk_sqlite.files import Files
from tovuk_sqlite.limits import GROUP_SECONDS_MAX, GROUP_WRITES_MAX
from tovuk_sqlite.room import Room
from tovuk_sqlite.store.base import Budget, Charge, Database, Exhausted, Fenced, Result, Statement, Writer
from tovuk_sqlite.store.usage import FolderUsage
from tovuk_sqlite.units import Units


@dataclass(slots=True, eq=False)
class Write:
    """One write on its way."""

    statements: Sequence[Statement]
    budget: Budget
    units: Units
    room: Room
    call: Call
    done: "asyncio.Future[Written]"
    #: Rows its last run read, however it ended.
    rows_read: int = 0


@dataclass(slots=True)
class Written:
    """What a write did, durably."""

    results: list[Result]
    storage_bytes: int

    @property
    def rows_written(self) -> int:
        """Rows to be charged."""
        return sum(result.rows_written for result in self.results)

    @property
    def rows_read(self) -> int:
        """Rows to be charged."""
        return sum(result.rows_read for result in self.results)


@dataclass(slots=True)
class _Group:
    """What one transaction did."""

    answers: list[tuple[Write, Written | BaseException]] = field(default_factory=list)
    totals: dict[Charge, int] = field(default_factory=dict)
    storage_bytes: int = 0


class _Broken(Exception):
    """The transaction was ended by one of its writes, or failed as a whole."""


class Writes:
    """The writes of every database of this process."""

    def __init__(self, files: Files, usage: FolderUsage) -> None:
        self._files = files
        self._usage = usage
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[Database, deque[Write]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, database: Database, write: Write) -> Written:
        """The write's effect, durable. Raises what it does wrong, Exhausted, Fenced."""
        waiting = self._waiting.get(database)
        if waiting is None:
            self._waiting[database] = deque((write,))
            task = self._loop.create_task(self._work_off(database))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            waiting.append(write)
        return await write.done

    async def close(self) -> None:
        """Wait for what is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _work_off(self, database: Database) -> None:
        waiting = self._waiting[database]
        while waiting:
            try:
                group = await self._files.writing(database, lambda writer: self._commit(writer, waiting))
            except Exception as error:  # noqa: BLE001  # whoever waits gets an answer
                told = error if isinstance(error, TovukError) else InternalError()
                for write in waiting:
                    _settle(write, told)
                waiting.clear()
                break
            self._usage.add_written(database, group.totals)
            self._usage.resize(database, group.storage_bytes)
            for write, answer in group.answers:
                _settle(write, answer)
        del self._waiting[database]

    # On a thread.

    def _commit(self, writer: Writer, waiting: "deque[Write]") -> _Group:
        writes: list[Write] = []
        # The loop only appends.
        while waiting and len(writes) < GROUP_WRITES_MAX:
            writes.append(waiting.popleft())
        try:
            return self._together(writer, writes)
        except _Broken:
            return self._apart(writer, writes)

    def _apart(self, writer: Writer, writes: list[Write]) -> _Group:
        """Each in a transaction of its own."""
        whole = _Group(storage_bytes=writer.storage_bytes())
        for write in writes:
            try:
                one = self._together(writer, [write], alone=True)
            except Exception as error:  # noqa: BLE001  # a write's exception is its answer
                whole.answers.append((write, error))
            else:
                whole.answers += one.answers
                whole.totals |= one.totals
                whole.storage_bytes = one.storage_bytes
        return whole

    def _together(self, writer: Writer, writes: list[Write], *, alone: bool = False) -> _Group:
        group = _Group()
        charges: list[Charge] = []
        room = writer.storage_bytes()
        end = time.monotonic() + GROUP_SECONDS_MAX
        late: list[Write] = []
        try:
            writer.begin()
            for write in writes:
                if late or (group.answers and time.monotonic() > end):
                    late.append(write)
                    continue
                room += write.room.bytes
                answer = self._run(writer, write, room)
                group.answers.append((write, answer))
                if isinstance(answer, Written):
                    charges += write.units.charges(self._usage.name, answer.rows_written)
                elif not writer.in_transaction:
                    if not alone:
                        raise _Broken
                    group.storage_bytes = writer.storage_bytes()
                    return group
            group.totals = writer.charge(_merged(charges))
            with self._usage.fence_of_commits.passing({charge.epoch for charge in charges}):
                writer.commit()
        except Exception as error:
            writer.roll_back()
            if alone or isinstance(error, StoreUnavailable):
                raise
            raise _Broken from error
        group.storage_bytes = writer.storage_bytes()
        for write in late:
            try:
                rest = self._together(writer, [write], alone=True)
            except Exception as error:  # noqa: BLE001  # a write's exception is its answer
                group.answers.append((write, error))
            else:
                group.answers += rest.answers
                group.totals |= rest.totals
                group.storage_bytes = rest.storage_bytes
        return group

    @staticmethod
    def _run(writer: Writer, write: Write, file_bytes: int) -> "Written | BaseException":
        try:
            with write.call.on(writer):
                budget = replace(write.budget, file_bytes=min(file_bytes, write.room.file_bytes_max))
                try:
                    return Written(writer.run(write.statements, budget), writer.storage_bytes())
                finally:
                    write.rows_read = writer.rows_read
        except (TovukError, Exhausted, Fenced) as error:
            return error


def _merged(charges: Sequence[Charge]) -> list[Charge]:
    """One charge a lease."""
    sums: dict[tuple[str, int, int], int] = {}
    for charge in charges:
        key = (charge.store, charge.epoch, charge.lease_id)
        sums[key] = sums.get(key, 0) + charge.units
    return [Charge(*key, units) for key, units in sums.items()]


def _settle(write: Write, answer: Written | BaseException) -> None:
    if write.done.done():
        return
    if isinstance(answer, Written):
        write.done.set_result(answer)
    else:
        write.done.set_exception(answer)
