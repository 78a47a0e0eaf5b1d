"""The choice between the engines of the port to a relational database."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from tovuk_kit.database import Database
from tovuk_kit.migrations import Migration, migrate


class UnknownEngine(ValueError):
    """A database URL of a kind that is not known here."""


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
