"""A running SQLite transaction as the kit's `Tx`."""

from collections.abc import Sequence
from typing import Any

from tovuk_kit.database import ConstraintViolated, Value
from tovuk_kit.sqlite_errors import Failure
from tovuk_kit.sqlite_library import Connection, Library


class SqliteTx:
    """A transaction that is rolled back by its owner when `failed`: PostgreSQL forgives no failed statement either."""

    def __init__(self, connection: Connection, library: Library[Connection]) -> None:
        self._connection = connection
        self._library = library
        self.failed: BaseException | None = None

    @property
    def rowcount(self) -> int:
        return self._connection.changes()

    def execute(self, sql: str, params: Sequence[Value] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(sql, params).fetchall()
        except BaseException as error:
            self.failed = error
            if self._library.failure(error) is Failure.CONSTRAINT:
                self.failed = ConstraintViolated(str(error))
                raise self.failed from error
            raise

    def lock(self, name: str) -> None:
        """Nothing to do: a file has one writer."""
