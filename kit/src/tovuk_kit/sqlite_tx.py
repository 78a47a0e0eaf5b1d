"""A running SQLite transaction as the kit's `Tx`."""

from collections.abc import Sequence
from typing import Any

import apsw

from tovuk_kit.database import ConstraintViolated, Value


class SqliteTx:
    """A transaction that is rolled back by its owner when `failed`: PostgreSQL forgives no failed statement either."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self.failed: BaseException | None = None

    @property
    def rowcount(self) -> int:
        return self._connection.changes()

    def execute(self, sql: str, params: Sequence[Value] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(sql, params).fetchall()
        except apsw.ConstraintError as error:
            self.failed = ConstraintViolated(str(error))
            raise self.failed from error
        except BaseException as error:
            self.failed = error
            raise

    def lock(self, name: str) -> None:
        """Nothing to do: a file has one writer."""
