"""The writer of a SQLite file: works that arrive while a commit is running form the next transaction.

Hot path: one group costs one BEGIN, one COMMIT with its fsync, and one wake-up of the event loop, whatever its size.
"""

import logging
import queue
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from tovuk_kit.errors import Outcome, StorageFull, StoreUnavailable, TovukError
from tovuk_kit.reserve import Reserve
from tovuk_kit.sqlite_errors import Failure, translated
from tovuk_kit.sqlite_library import C, Connection, Library, fault

T = TypeVar("T")
Work = Callable[[C], T]
Done = Callable[[Any], None]
#: A work, who hears of its result, and whether it may use the reserve's room.
Item = tuple[Callable[[Any], Any], Done, bool]
Answers = list[tuple[Done, Any]]

log = logging.getLogger(__name__)

GROUP_WORKS_MAX: Final = 1024
#: A group that has run this long is committed, so that its first work need not wait for ever more.
GROUP_SECONDS_MAX: Final = 0.02
QUEUED_WORKS_MAX: Final = 65_536
#: Every so many pages the WAL is copied back into the file.
CHECKPOINT_PAGES: Final = 1_000
#: How often a lost connection or a given-up reserve is tried again.
RETRY_SECONDS: Final = 0.2
#: The writer lets go of the interpreter at each statement; with the default of 5 ms it would wait that long for a busy
#: event loop every time, and a group of 64 works would take 60 ms instead of 2.
SWITCH_SECONDS: Final = 0.0001


class _GroupFailed(Exception):
    """The transaction of a group is lost as a whole."""

    def __init__(self, cause: str, failure: Failure, *, at_commit: bool = False) -> None:
        super().__init__(cause)
        self.failure = failure
        # Frames of a failed commit may come back at a restart, unless there was no room to write them all.
        self.outcome = Outcome.UNKNOWN if at_commit and failure is not Failure.FULL else Outcome.NOT_DONE


class GroupCommit(Generic[C]):
    """One writer thread over one connection, with a second thread that checkpoints beside the commits.

    `connect` opens a writing connection; `deliver` takes a group's answers on the writer thread.
    """

    def __init__(
        self,
        name: str,
        library: Library[C],
        connect: Callable[[], C],
        reserve: Reserve,
        deliver: Callable[[Answers], None],
    ) -> None:
        self._name = name
        self._library = library
        self._connect = connect
        self._reserve = reserve
        self._deliver = deliver
        self._queue: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._connection: C | None = None
        self._reopen_at = 0.0
        self._reserve_at = 0.0
        self._schema_version = -1
        self._checkpoint_due = threading.Event()
        self._checkpoint_at_pages = CHECKPOINT_PAGES
        self._checkpoint_behind = False
        self._checkpoint_without_room = False
        self._closing = False
        self._threads = [
            threading.Thread(target=self._write, name=f"write {name}", daemon=True),
            threading.Thread(target=self._checkpoint_beside, name=f"checkpoint {name}", daemon=True),
        ]
        sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_SECONDS))

    def start(self) -> None:
        """Start both threads."""
        for thread in self._threads:
            thread.start()

    def put(self, item: Item) -> None:
        """Queue one work; raises StoreUnavailable when closed or when too many wait."""
        if self._closing or self._queue.qsize() >= QUEUED_WORKS_MAX:
            raise StoreUnavailable(retry_after_ms=1000)
        self._queue.put(item)

    def close(self) -> None:
        """Finish what is queued and end both threads; blocks."""
        self._closing = True
        self._queue.put(None)
        self._checkpoint_due.set()
        for thread in self._threads:
            thread.join()

    def _write(self) -> None:
        closing = False
        while not closing:
            first = self._queue.get()
            if first is None:
                break
            group = [first]
            # Only this thread takes from the queue, so what it counts is there.
            for _ in range(min(self._queue.qsize(), GROUP_WORKS_MAX - 1)):
                item = self._queue.get()
                if item is None:
                    closing = True
                    break
                group.append(item)
            while group:
                answers = self._answers(group)
                group = group[len(answers) :]
                self._deliver(answers)
        self._lose_connection()

    def _answers(self, group: list[Item]) -> Answers:
        """Commit the group, or the first part of it; one answer for each work that was dealt with, in order."""
        try:
            self._keep_wal_short()
            if not self._reserve.held and not self._has_room():
                return self._commit_essential(group)
            try:
                return self._commit(group)
            except _GroupFailed as failed:
                if failed.failure is not Failure.FULL:
                    return self._refuse(group, failed)
            self._free_reserve()
            return self._commit_essential(group)
        except Exception:
            # A work broke its transaction off, or this thread has a fault: it must not end while others wait for it.
            log.exception("a group of %d works of %s failed", len(group), self._name)
            self._lose_connection()
            return _all(group, StoreUnavailable(outcome=Outcome.UNKNOWN, retry_after_ms=1000))

    def _commit_essential(self, group: list[Item]) -> Answers:
        """Commit the essential works of a full disk; the others get StorageFull."""
        essential = [item for item in group if item[2]]
        answers: Answers = []
        while len(answers) < len(essential):
            rest = essential[len(answers) :]
            try:
                answers += self._commit(rest)
            except _GroupFailed as failed:
                answers += self._refuse(rest, failed)
        results = iter(answers)
        return [next(results) if item[2] else (item[1], StorageFull(retry_after_ms=1000)) for item in group]

    def _refuse(self, group: list[Item], failed: _GroupFailed) -> Answers:
        log.error("a group of %d works of %s failed: %s", len(group), self._name, failed)
        if failed.failure is not Failure.FULL:
            self._lose_connection()
        return _all(group, translated(failed.failure, failed.outcome))

    def _commit(self, group: list[Item]) -> Answers:
        """One transaction over the group, or over the part of it that GROUP_SECONDS_MAX admits."""
        connection = self._connected()
        try:
            connection.execute("BEGIN IMMEDIATE")
            answers = self._run(connection, group)
            if answers is None:
                connection.execute("ROLLBACK")
                connection.execute("BEGIN IMMEDIATE")
                self._schema_version = _schema_version(connection)
                answers = self._run_apart(connection, group)
        except Exception as error:
            failure = self._library.failure(error)
            if failure is None:
                raise
            self._roll_back(connection)
            raise _GroupFailed(str(error), failure) from error
        try:
            connection.execute("COMMIT")
        except Exception as error:
            failure = self._library.failure(error)
            if failure is None:
                raise
            self._roll_back(connection)
            if failure is not Failure.CONSTRAINT:
                raise _GroupFailed(str(error), failure, at_commit=True) from error
            # A deferred constraint speaks only now, and does not say for whom.
            if len(answers) == 1:
                return [(group[0][1], error)]
            return self._commit(group[: len(answers) // 2])
        return answers

    def _run(self, connection: C, group: list[Item]) -> Answers | None:
        """Run the works without savepoints, which double a group's cost; None when one must be undone by itself."""
        answers: Answers = []
        end = time.monotonic() + GROUP_SECONDS_MAX
        for work, done, _ in group:
            changes = connection.total_changes()
            try:
                result = work(connection)
            except Exception as error:  # noqa: BLE001 -- a work's exception is its result
                self._raise_if_lost(connection, error)
                # Changed tables are not among the counted changes.
                if connection.total_changes() != changes or _schema_version(connection) != self._schema_version:
                    return None
                result = error
            answers.append((done, result))
            if time.monotonic() > end:
                break
        return answers

    def _run_apart(self, connection: C, group: list[Item]) -> Answers:
        """Run each work in a savepoint of its own."""
        answers: Answers = []
        end = time.monotonic() + GROUP_SECONDS_MAX
        for work, done, _ in group:
            connection.execute("SAVEPOINT work")
            try:
                result = work(connection)
            except Exception as error:  # noqa: BLE001 -- a work's exception is its result
                self._raise_if_lost(connection, error)
                connection.execute("ROLLBACK TO work")
                result = error
            connection.execute("RELEASE work")
            answers.append((done, result))
            if time.monotonic() > end:
                break
        return answers

    def _connected(self) -> C:
        if self._connection is None:
            if time.monotonic() < self._reopen_at:
                raise _GroupFailed("the file could not be opened a moment ago", Failure.FAULT)
            try:
                self._connection = self._connect()
                self._connection.set_wal_hook(self._wal_grew)
            except Exception as error:
                failure = self._library.failure(error)
                if failure is None:
                    raise
                self._lose_connection()
                self._reopen_at = time.monotonic() + RETRY_SECONDS
                raise _GroupFailed(str(error), failure) from error
        return self._connection

    def _lose_connection(self) -> None:
        """After a fault nothing the connection remembers of the file is to be trusted; the next group opens it anew."""
        if self._connection is not None:
            try:
                self._connection.close(True)
            except Exception:
                log.exception("closing %s", self._name)
        self._connection = None

    def _roll_back(self, connection: C) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except Exception:
            log.exception("rolling back %s", self._name)
            self._lose_connection()

    def _raise_if_lost(self, connection: C, error: BaseException) -> None:
        """Raise what ended the transaction, if the failure of a work did; a work may have wrapped the store's fault."""
        cause: BaseException | None = error
        while cause is not None and not fault(self._library, cause):
            cause = cause.__cause__ or cause.__context__
        if cause is not None:
            raise cause
        if not connection.in_transaction:
            raise error

    # A full disk.

    def _has_room(self) -> bool:
        """Whether works that add may run without the reserve: it is made again, or the file itself has room."""
        now = time.monotonic()
        if now >= self._reserve_at:
            self._reserve_at = now + RETRY_SECONDS
            if self._reserve.make(spare_bytes=self._reserve.size_bytes):
                return True
        free_pages: int = self._connected().execute("PRAGMA freelist_count").get
        return free_pages >= CHECKPOINT_PAGES

    def _free_reserve(self) -> None:
        if self._reserve.held:
            log.warning("no room for %s; its reserve is given up for deletes and usage", self._name)
            self._reserve.give_up()
        self._reserve_at = time.monotonic() + RETRY_SECONDS
        # With the room just freed the WAL can be copied back, and its own blocks be used again.
        self._checkpoint(self._connection)

    # The WAL.

    def _wal_grew(self, _connection: C, _schema: str, pages: int) -> int:
        if pages < self._checkpoint_at_pages - CHECKPOINT_PAGES:
            self._checkpoint_at_pages = CHECKPOINT_PAGES
        if pages >= self._checkpoint_at_pages and not self._checkpoint_due.is_set() and not self._checkpoint_behind:
            self._checkpoint_at_pages = pages + CHECKPOINT_PAGES
            self._checkpoint_due.set()
        return 0

    def _keep_wal_short(self) -> None:
        """Copy back the little the other thread could not, as commits went on: only then does the WAL begin anew."""
        if self._checkpoint_behind and not self._checkpoint_due.is_set():
            self._checkpoint_behind = False
            self._checkpoint(self._connection)
        if self._checkpoint_without_room:
            self._checkpoint_without_room = False
            self._free_reserve()

    def _checkpoint_beside(self) -> None:
        connection: C | None = None
        while not self._closing:
            self._checkpoint_due.wait()
            try:
                connection = connection or self._connect()
                self._checkpoint(connection)
            except Exception:
                log.exception("opening %s for a checkpoint", self._name)
            self._checkpoint_behind = True
            self._checkpoint_due.clear()
        if connection is not None:
            connection.close()

    def _checkpoint(self, connection: C | None) -> None:
        if connection is None:
            return
        try:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except Exception as error:  # noqa: BLE001 -- nothing of it may end this thread
            if self._library.failure(error) is Failure.FULL:
                self._checkpoint_without_room = self._reserve.held
            else:
                # Nothing is lost: the WAL is durable and the next checkpoint begins where this one did.
                log.warning("a checkpoint of %s failed: %s", self._name, error)


def _all(group: list[Item], error: TovukError) -> Answers:
    return [(done, error) for _, done, _ in group]


def _schema_version(connection: Connection) -> int:
    version: int = connection.execute("PRAGMA schema_version").get
    return version
