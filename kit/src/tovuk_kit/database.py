"""The port to a relational database, in the dialect SQLite and PostgreSQL both take.

The dialect: `?` placeholders, ON CONFLICT, RETURNING, columns of BIGINT, DOUBLE PRECISION and TEXT, truth as 0 and 1,
no blobs. Text is compared by its bytes only for equality; its order follows the database's collation.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
Value = str | int | float | None


class ConstraintViolated(Exception):
    """A statement broke a constraint of its table; its transaction cannot be committed any more."""


class Tx(Protocol):
    """A running transaction."""

    @property
    def rowcount(self) -> int:
        """The rows the last INSERT, UPDATE or DELETE changed."""
        ...

    def execute(self, sql: str, params: Sequence[Value] = ()) -> list[tuple[Any, ...]]:
        """Run one statement, or a script without `params`; returns all of its rows.

        Raises ConstraintViolated. After any failed statement the transaction is lost, even if the error is caught.
        """
        ...

    def lock(self, name: str) -> None:
        """Wait until no other transaction holds `name`; hold it to the end of this one."""
        ...


class Database(Protocol):
    """A relational database. Its engine's failures are StorageFull and StoreUnavailable, which tells the outcome."""

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Run `work` as one transaction; returns when its effect is durable.

        `work` changes nothing but the database, for it may be run again. If it raises, nothing is changed.
        """
        ...

    async def read(self, work: Callable[[Tx], T]) -> T:
        """Run `work`, which changes nothing, over one snapshot of all that is acknowledged."""
        ...

    async def close(self) -> None:
        """Finish what is running and let go; again is no harm."""
        ...
