"""The port to a relational database, in the dialect SQLite and PostgreSQL both take, and the choice between them.

The dialect: `?` placeholders, ON CONFLICT, RETURNING, columns of BIGINT, DOUBLE PRECISION and TEXT, truth as 0 and 1,
no blobs. Text is compared by its bytes only for equality; its order follows the database's collation.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from tovuk_kit.migrations import Migration, migrate

T = TypeVar("T")
Value = str | int | float | None


class ConstraintViolated(Exception):
    """A statement broke a constraint of its table; its transaction cannot be committed any more."""


class UnknownEngine(ValueError):
    """A database URL of a kind that is not known here."""


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


async def open_database(url: str, migrations: Sequence[Migration], *, essential: bool = False) -> Database:
    """Open the database of a `sqlite:///path` or `postgresql://…` URL, migrated to the newest version.

    `essential` writes go on, by the room of a reserve file, when the disk under a SQLite file is full.

    Raises UnknownEngine, MigrationError, StoreUnavailable, StorageFull or FileInUse.
    """
    parts = urlsplit(url)
    match parts.scheme:
        case "sqlite" if parts.netloc == "" and len(parts.path) > 1:
            from tovuk_kit.sqlite_database import SqliteDatabase

            # As in other libraries, three slashes lead to a relative path and four to an absolute one.
            return SqliteDatabase.open(Path(parts.path[1:]), migrations=migrations, essential=essential)
        case "postgresql" | "postgres":
            # Installed only where it is used: the extra tovuk-kit[postgres].
            from tovuk_kit.postgres import PostgresDatabase

            database = await PostgresDatabase.open(url)
            try:
                if migrations:
                    await migrate(database, migrations)
            except BaseException:
                await database.close()
                raise
            return database
        case _:
            raise UnknownEngine(f"{parts.scheme}: is neither sqlite:///path nor postgresql://…")
