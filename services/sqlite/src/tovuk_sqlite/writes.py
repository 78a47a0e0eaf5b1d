"""Writes of one database: those that wait while a commit runs form the next one.

Each is all or nothing by itself; one that fails sinks no other. They are answered when the commit is durable.

Hot path: short writes that follow one another are one call of the engine, below 12 µs of CPU each beside it.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import takewhile
from typing import Any

from tovuk_kit.errors import InternalError, StoreUnavailable, TovukError
from tovuk_sqlite.calls import Call
from tovuk_sqlite.files import Files
from tovuk_sqlite.limits import (
    GROUP_SECONDS_MAX,
    GROUP_WRITES_MAX,
    SHORT_BYTES_MAX,
    SHORT_ENTRIES_MAX,
    SHORT_WRITE_SECONDS_MAX,
)
from tovuk_sqlite.room import Room
from tovuk_sqlite.store.base import (
    Budget,
    Charge,
    Database,
    Exhausted,
    Failed,
    Fenced,
    NotShort,
    Results,
    Short,
    ShortBounds,
    Statement,
    Writer,
)
from tovuk_sqlite.store.usage import FolderUsage
from tovuk_sqlite.units import Units

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Written:
    """What a write did, durably, and the bytes of its file then."""

    results: Results
    storage_bytes: int = 0


#: What a write did; or why it did nothing: TovukError, Exhausted, NotShort, Fenced.
Ended = Written | Exception


@dataclass(slots=True, eq=False)
class Write:
    """One write on its way; `answer` is called with it exactly once, on the loop."""

    units: Units
    room: Room
    answer: Callable[[Any, Ended], None]
    #: Rows its last run read, however it ended.
    rows_read: int = field(default=0, init=False)


@dataclass(slots=True, eq=False)
class LongWrite(Write):
    """Any number of statements, under a budget, until its caller leaves."""

    statements: Sequence[Statement]
    budget: Budget
    call: Call


@dataclass(slots=True, eq=False)
class ShortWrite(Write):
    """Statements that are done at once, or not."""

    short: Short


@dataclass(slots=True)
class _Group:
    """What one transaction did."""

    answers: list[tuple[Write, Ended]] = field(default_factory=list)
    totals: dict[Charge, int] = field(default_factory=dict)
    storage_bytes: int = 0


class _Broken(Exception):
    """The transaction was ended by one of its writes, or failed as a whole; nothing of it was done."""


class Writes:
    """The writes of every database of this process."""

    def __init__(self, files: Files, usage: FolderUsage) -> None:
        self._files = files
        self._usage = usage
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[Database, deque[Write]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def submit(self, database: Database, write: Write) -> None:
        """Make the write durable with others, and answer it."""
        waiting = self._waiting.get(database)
        if waiting is None:
            self._waiting[database] = deque((write,))
            task = self._loop.create_task(self._work_off(database))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            waiting.append(write)

    async def close(self) -> None:
        """Wait for what is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _work_off(self, database: Database) -> None:
        waiting = self._waiting[database]
        while waiting:
            group = _Group()
            try:
                await self._files.writing(database, partial(self._commit, database, waiting, group))
            except Exception as error:  # noqa: BLE001  # whoever waits gets an answer
                if not isinstance(error, TovukError):
                    _log.exception("a commit failed")
                if not group.answers:
                    # No thread, no file: nothing of theirs was begun.
                    group.answers = [(write, _told(error)) for write in waiting]
                    group.storage_bytes = self._usage.size(database)
                    waiting.clear()
            self._usage.add_written(database, group.totals)
            self._usage.resize(database, group.storage_bytes)
            for write, ended in group.answers:
                if isinstance(ended, Written):
                    ended.storage_bytes = group.storage_bytes
                _answer(write, ended)
        del self._waiting[database]

    # On a thread.

    def _commit(self, database: Database, waiting: "deque[Write]", group: _Group, writer: Writer) -> None:
        writes: list[Write] = []
        # The loop only appends.
        while waiting and len(writes) < GROUP_WRITES_MAX:
            writes.append(waiting.popleft())
        try:
            late = self._together(writer, writes, group)
        except _Broken:
            late = []
            self._apart(writer, writes, group)
        except Exception as error:  # noqa: BLE001  # whoever was taken gets an answer
            group.answers = [(write, _told(error)) for write in writes]
            late = []
        waiting.extendleft(reversed(late))
        try:
            group.storage_bytes = writer.storage_bytes()
        except TovukError:
            # What is durable is told all the same; the size follows with the next write.
            group.storage_bytes = self._usage.size(database)

    def _apart(self, writer: Writer, writes: list[Write], whole: _Group) -> None:
        """Each in a transaction of its own."""
        for write in writes:
            one = _Group()
            try:
                self._together(writer, [write], one)
            except Exception as error:  # noqa: BLE001  # a write's exception is its answer
                whole.answers.append((write, _told(error)))
            else:
                whole.answers += one.answers
                whole.totals |= one.totals

    def _together(self, writer: Writer, writes: list[Write], group: _Group) -> list[Write]:
        """One transaction; the writes for which there was no time any more. Raises _Broken, and what befalls all."""
        charges: list[Charge] = []
        room = writer.storage_bytes()
        end = time.monotonic() + GROUP_SECONDS_MAX
        late: list[Write] = []
        index = 0
        try:
            writer.begin()
            while index < len(writes) and not late:
                if group.answers and time.monotonic() > end:
                    break
                write = writes[index]
                if isinstance(write, LongWrite):
                    room += write.room.bytes
                    ended: list[tuple[Write, Ended]] = [(write, self._long(writer, write, room))]
                else:
                    shorts = [one for one in takewhile(_is_short, writes[index:]) if isinstance(one, ShortWrite)]
                    room += sum(one.room.bytes for one in shorts)
                    ended, late = self._shorts(writer, shorts, room, max(0.0, end - time.monotonic()))
                index += len(ended)
                for one, answer in ended:
                    group.answers.append((one, answer))
                    if isinstance(answer, Written):
                        charges += one.units.charges(self._usage.name, answer.results.rows_written)
                if not writer.in_transaction:
                    if len(writes) > 1:
                        raise _Broken
                    return []
            group.totals = writer.charge(_merged(charges))
            with self._usage.fence_of_commits.passing({charge.epoch for charge in charges}):
                writer.commit()
        except Exception as error:
            writer.roll_back()
            group.answers.clear()
            group.totals.clear()
            if len(writes) == 1 or isinstance(error, _Broken | StoreUnavailable):
                raise
            raise _Broken from error
        return writes[index:]

    @staticmethod
    def _long(writer: Writer, write: LongWrite, file_bytes: int) -> Ended:
        try:
            with write.call.on(writer):
                budget = replace(write.budget, file_bytes=min(file_bytes, write.room.file_bytes_max))
                try:
                    return Written(writer.run(write.statements, budget))
                finally:
                    write.rows_read = writer.rows_read
        except (TovukError, Exhausted) as error:
            return error

    @staticmethod
    def _shorts(
        writer: Writer, writes: Sequence[ShortWrite], file_bytes: int, total_s: float
    ) -> tuple[list[tuple[Write, Ended]], list[Write]]:
        """How they ended, and those that were not begun."""
        bounds = ShortBounds(
            each_s=SHORT_WRITE_SECONDS_MAX,
            total_s=total_s,
            result_rows=SHORT_ENTRIES_MAX,
            result_bytes=SHORT_BYTES_MAX,
            file_bytes=min(file_bytes, writes[0].room.file_bytes_max),
        )
        done: list[tuple[Write, Ended]] = []
        late: list[Write] = []
        for write, ended in zip(writes, writer.run_short([write.short for write in writes], bounds), strict=True):
            if isinstance(ended, NotShort) and not ended.begun:
                late.append(write)
            elif isinstance(ended, Failed):
                write.rows_read = ended.rows_read
                done.append((write, ended.error))
            else:
                done.append((write, Written(ended) if isinstance(ended, Results) else ended))
        return done, late


def _is_short(write: Write) -> bool:
    return isinstance(write, ShortWrite)


def _answer(write: Write, ended: Ended) -> None:
    try:
        write.answer(write, ended)
    except Exception:  # noqa: BLE001  # the others' answers come after it
        _log.exception("an answer could not be given")


def _told(error: Exception) -> Exception:
    return error if isinstance(error, TovukError | Exhausted | Fenced) else InternalError()


def _merged(charges: Sequence[Charge]) -> list[Charge]:
    """One charge a lease."""
    sums: dict[tuple[str, int, int], int] = {}
    for store, epoch, lease_id, units in charges:
        key = (store, epoch, lease_id)
        sums[key] = sums.get(key, 0) + units
    return [Charge(*key, units) for key, units in sums.items()]
