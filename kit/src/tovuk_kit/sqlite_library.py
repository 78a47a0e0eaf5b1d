"""The port to a build of SQLite: what the kit's file, and works on it, ask of a library in the process.

A process uses one: whoever closes any descriptor of a file loses all the process's locks on it, and two copies of
SQLite do not know of each other's.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tovuk_kit.sqlite_errors import Failure


class Rows(Protocol):
    """What a statement answers; taken once."""

    @property
    def get(self) -> Any:
        """The value, where there is one row of one column at most; None for no row."""
        ...

    def fetchone(self) -> Any | None:
        """The next row."""
        ...

    def fetchall(self) -> list[tuple[Any, ...]]:
        """The rows that are left."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """The rows that are left, one by one."""
        ...


class Connection(Protocol):
    """An open file. Integers, floats, text, bytes and None are SQLite's values, both ways."""

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction was begun and neither committed nor rolled back, by a statement or by a failure."""
        ...

    def execute(self, sql: str, params: Sequence[Any] = (), /) -> Rows:
        """Run one statement, or a script without parameters."""
        ...

    def executemany(self, sql: str, params: Iterable[Sequence[Any]], /) -> Rows:
        """Run one statement with each of the parameters."""
        ...

    def changes(self) -> int:
        """The rows the last INSERT, UPDATE or DELETE changed."""
        ...

    def total_changes(self) -> int:
        """The rows changed since the connection was opened."""
        ...

    def last_insert_rowid(self) -> int:
        """The rowid of the last INSERT."""
        ...

    def set_wal_hook(self, hook: Callable[[Any, str, int], int] | None, /) -> None:
        """Call after each commit that wrote with the connection, the schema's name and the WAL's pages; answers 0."""
        ...

    def close(self, force: bool = False, /) -> None:
        """Close it; forced, whatever is wrong with it."""
        ...


C = TypeVar("C", bound=Connection)
C_co = TypeVar("C_co", bound=Connection, covariant=True)


class Library(Protocol[C_co]):
    """A build of SQLite."""

    @property
    def version(self) -> str:
        """SQLite's version: three numbers with points."""
        ...

    def connect(self, path: Path) -> C_co:
        """Open or create the file. Where others hold its locks, its statements wait for some seconds."""
        ...

    def failure(self, error: BaseException) -> Failure | None:
        """What an exception of its connections means; None for any other."""
        ...


def fault(library: Library[Connection], error: BaseException) -> Failure | None:
    """What failed of the store; None where it was the statement, or nothing of the library's."""
    failure = library.failure(error)
    return failure if failure in (Failure.FULL, Failure.FAULT) else None
