"""The SQLite of the extension as the kit's library: the catalog is opened by what opens the databases."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from tovuk_kit.sqlite_errors import Failure
from tovuk_sqlite_native import VERSION, OwnConnection, SqliteError

_BUSY_TIMEOUT_MS: Final = 5_000
_FAULTS: Final = frozenset({"io", "corrupt", "memory", "busy", "readonly"})


class NativeLibrary:
    """The Library of `tovuk_sqlite_native`."""

    version: Final[str] = VERSION

    def connect(self, path: Path) -> "NativeConnection":
        return NativeConnection(str(path), busy_timeout_ms=_BUSY_TIMEOUT_MS)

    def failure(self, error: BaseException) -> Failure | None:
        if not isinstance(error, SqliteError):
            return None
        match error.kind:
            case "full":
                return Failure.FULL
            case "constraint":
                return Failure.CONSTRAINT
            case kind if kind in _FAULTS:
                return Failure.FAULT
        return Failure.STATEMENT


class NativeConnection(OwnConnection):
    """A statement has run to its end before its first row is taken."""

    def execute(self, sql: str, params: Sequence[Any] = (), /) -> "NativeRows":
        return NativeRows(self.rows(sql, params))

    def executemany(self, sql: str, params: Iterable[Sequence[Any]], /) -> "NativeRows":
        return NativeRows([row for one in params for row in self.rows(sql, one)])


class NativeRows:
    """Rows that were read."""

    __slots__ = ("_rows",)

    def __init__(self, rows: list[tuple[Any, ...]]) -> None:
        self._rows = iter(rows)

    @property
    def get(self) -> Any:
        row = next(self._rows, None)
        return None if row is None else row[0]

    def fetchone(self) -> Any | None:
        return next(self._rows, None)

    def fetchall(self) -> list[tuple[Any, ...]]:
        return list(self._rows)

    def __iter__(self) -> Iterator[Any]:
        return self._rows
