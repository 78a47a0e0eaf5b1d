"""The catalog of databases, a SQLite file whose lock makes the data folder this process's."""

import platform
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple
from enum import IntEnum
from pathlib import Path
from typing import Any, Final, Self

from tovuk_kit.migrations import load
from tovuk_kit.sqlite import SqliteFile
from tovuk_kit.sqlite_library import Connection, Library
from tovuk_sqlite.store.base import Database, NameTaken, Tombstoned

#: Units of a lease, beside those that stand there.
ADD_USED: Final = (
    "INSERT INTO used VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (epoch, lease, service_id, resource_id) DO UPDATE SET units = units + excluded.units"
)
_COLUMNS: Final = "id, name, service_id, account_id, created_at_ms, generation"


#: In `meta` of a folder that is being rebuilt.
_UNFINISHED: Final = "unfinished"


class State(IntEnum):
    """What `dropped` says of a database."""

    LIVE = 0
    DROPPED = 1
    #: Complete here, and this shard's as soon as control says so.
    ARRIVING = 2
    #: Another shard's as soon as control says so, which may have happened.
    LEAVING = 3
    #: Another shard's; files are left of it.
    GONE = 4
    #: On its way here, in pieces.
    COMING = 5


class SqliteCatalog:
    """The Catalog of one data folder."""

    def __init__(self, file: SqliteFile[Connection], store_id: str, cursor_key: bytes, lock_id: str) -> None:
        self.file = file
        rows: list[Any] = file.read(lambda connection: connection.execute("SELECT * FROM account_plan").fetchall())
        self._plans: dict[str, str] = dict(rows)
        #: The folder's id, for ever.
        self.store_id = store_id
        #: The lock that makes the folder this process's, as no other folder's and no other machine's.
        self.lock_id = lock_id
        #: The store's name at metering, unique for ever.
        self.store_name = f"sqlite/{store_id}/0"
        #: Signs cursors.
        self.cursor_key = cursor_key
        self._marked: set[str] = set()

    @classmethod
    async def open(cls, data_dir: Path, library: Library[Connection], *, lost_store_id: str = "") -> Self:
        """Open or create it; one that never served takes the place of a lost folder of this id, and is not whole yet.

        Raises what SqliteFile.open raises.
        """
        path = data_dir / "catalog.sqlite"
        file = SqliteFile.open(path, library, migrations=load("tovuk_sqlite.store"))
        identity = {"store_id": lost_store_id or secrets.token_hex(16), "cursor_key": secrets.token_bytes(32)}

        def work(connection: Connection) -> tuple[str, bytes]:
            # A folder without an epoch never served, though a process may have waited on it for its shard.
            if lost_store_id and connection.execute("SELECT count(*) FROM epoch").get == 0:
                connection.execute("DELETE FROM meta")
                connection.execute("INSERT INTO meta VALUES (?, 1)", (_UNFINISHED,))
                # Epochs of the folder before are beyond recall; ours are to be higher than all of them.
                connection.execute("INSERT INTO epoch (number, live) VALUES (?, 0)", (int(time.time()),))
            connection.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", list(identity.items()))
            rows: list[Any] = connection.execute("SELECT name, value FROM meta").fetchall()
            meta = dict(rows)
            return meta["store_id"], meta["cursor_key"]

        return cls(file, *await file.write(work), _lock_id(path))

    @property
    def unfinished(self) -> bool:
        """Whether the folder takes the place of a lost one and lacks databases."""
        sql = "SELECT 1 FROM meta WHERE name = ?"
        return self.file.read(lambda connection: connection.execute(sql, (_UNFINISHED,)).get is not None)

    async def finish(self) -> None:
        """The folder has everything that the lost one had."""
        await self._run("DELETE FROM meta WHERE name = ?", _UNFINISHED)

    async def create(self, database: Database, storage_bytes: int) -> None:
        def work(connection: Connection) -> None:
            sql = "SELECT 1 FROM tombstone WHERE service_id = ?"
            if connection.execute(sql, (database.service_id,)).get is not None:
                raise Tombstoned
            sql = "SELECT id FROM database WHERE service_id = ? AND name = ? AND dropped = 0"
            if connection.execute(sql, (database.service_id, database.name)).get not in (None, database.id):
                raise NameTaken
            connection.execute(
                f"INSERT INTO database ({_COLUMNS}, storage_bytes) VALUES (?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (id) DO NOTHING",
                (*astuple(database), storage_bytes),
            )

        await self.file.write(work)

    async def find(self, service_id: str, ref: str) -> Database | None:
        sql = f"SELECT {_COLUMNS} FROM database WHERE service_id = ? AND (id = ? OR name = ?) AND dropped = 0"
        row: Any = self.file.read(lambda connection: connection.execute(sql, (service_id, ref, ref)).fetchone())
        return None if row is None else Database(*row)

    def get(self, database_id: str) -> Database | None:
        """The database with this id, unless it is dropped."""
        found = self._listed(f"SELECT {_COLUMNS} FROM database WHERE id = ? AND dropped = 0", (database_id,))
        return found[0] if found else None

    def all(self) -> list[Database]:
        """Every database the folder knows, whatever its state."""
        return self._listed(f"SELECT {_COLUMNS} FROM database", ())

    async def databases(self, service_id: str) -> list[Database]:
        sql = f"SELECT {_COLUMNS} FROM database WHERE service_id = ? AND dropped = 0 ORDER BY name"
        return self._listed(sql, (service_id,))

    async def drop(self, database: Database) -> None:
        await self._run("UPDATE database SET dropped = 1 WHERE id = ?", database.id)

    async def dropped(self) -> list[Database]:
        return self._listed(f"SELECT {_COLUMNS} FROM database WHERE dropped = 1", ())

    async def forget(self, database: Database) -> None:
        def work(connection: Connection) -> None:
            connection.execute("DELETE FROM mark WHERE database_id = ?", (database.id,))
            connection.execute("DELETE FROM database WHERE id = ? AND dropped <> 0", (database.id,))

        await self.file.write(work, essential=True)
        self._marked.discard(database.id)

    async def come(self, database: Database, *, with_archive: bool) -> None:
        """A database begins to move here; what came of it before is void. Otherwise it is not in the folder."""

        def work(connection: Connection) -> None:
            void = (database.id, State.ARRIVING, State.COMING)
            connection.execute("DELETE FROM database WHERE id = ? AND dropped IN (?, ?)", void)
            connection.execute(
                f"INSERT INTO database ({_COLUMNS}, storage_bytes, dropped, with_archive)"
                " VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?)",
                (*astuple(database), State.COMING, int(with_archive)),
            )

        await self.file.write(work, essential=True)

    async def arrive(self, database: Database, storage_bytes: int) -> None:
        """A database that was coming is complete. Whether it is this shard's, control says."""

        def work(connection: Connection) -> None:
            sql = "UPDATE database SET dropped = ?, storage_bytes = ? WHERE id = ? AND dropped = ?"
            connection.execute(sql, (State.ARRIVING, storage_bytes, database.id, State.COMING))

        await self.file.write(work, essential=True)

    async def leave(self, database: Database, *, with_archive: bool) -> bool:
        """Whether the database is about to leave; not if it is another than it was."""

        def work(connection: Connection) -> bool:
            sql = "UPDATE database SET dropped = ?, with_archive = ? WHERE id = ? AND generation = ? AND dropped = 0"
            connection.execute(sql, (State.LEAVING, int(with_archive), database.id, database.generation))
            return bool(connection.changes())

        return await self.file.write(work, essential=True)

    async def give_up(self, database: Database) -> None:
        """A database that was coming does not come; what is here of it can go."""

        def work(connection: Connection) -> None:
            sql = "UPDATE database SET dropped = ? WHERE id = ? AND dropped IN (?, ?)"
            connection.execute(sql, (State.GONE, database.id, State.ARRIVING, State.COMING))

        await self.file.write(work, essential=True)

    def moves_with_archive(self, database: Database) -> bool:
        """Whether a database that leaves or comes has its objects with it."""
        sql = "SELECT with_archive FROM database WHERE id = ?"
        return bool(self.file.read(lambda connection: connection.execute(sql, (database.id,)).get))

    async def stay(self, database: Database, before: "State") -> None:
        """A database that was in doubt, in this state, is this shard's."""

        def work(connection: Connection) -> None:
            sql = "UPDATE database SET dropped = 0 WHERE id = ? AND generation = ? AND dropped = ?"
            connection.execute(sql, (database.id, database.generation, before))

        await self.file.write(work, essential=True)

    async def depart(self, database: Database, units: Sequence[tuple[int, int, int]]) -> None:
        """A leaving database has left; the (epoch, lease, units) that its file held are the catalog's."""

        def work(connection: Connection) -> None:
            sql = "UPDATE database SET dropped = ? WHERE id = ? AND dropped = ?"
            connection.execute(sql, (State.GONE, database.id, State.LEAVING))
            if connection.changes():
                take_over(connection, database, units)
                connection.execute("DELETE FROM mark WHERE database_id = ?", (database.id,))

        await self.file.write(work, essential=True)
        self._marked.discard(database.id)

    def state(self, database_id: str) -> "State | None":
        """What the database is, if the folder knows it."""
        sql = "SELECT dropped FROM database WHERE id = ?"
        found: Any = self.file.read(lambda connection: connection.execute(sql, (database_id,)).get)
        return None if found is None else State(found)

    def in_state(self, *states: "State") -> list[Database]:
        """The databases in these states."""
        marks = ", ".join("?" * len(states))
        sql = f"SELECT {_COLUMNS} FROM database WHERE dropped IN ({marks})"

        def work(connection: Connection) -> list[Database]:
            return [Database(*row) for row in connection.execute(sql, states)]

        return self.file.read(work)

    async def entomb(self, service_id: str) -> list[Database]:
        await self._run("INSERT OR IGNORE INTO tombstone VALUES (?)", service_id)
        return await self.databases(service_id)

    async def mark(self, database: Database) -> None:
        if database.id not in self._marked:
            await self._run("INSERT OR IGNORE INTO mark VALUES (?)", database.id)
            self._marked.add(database.id)

    def is_marked(self, database: Database) -> bool:
        """Whether `mark` has nothing to do."""
        return database.id in self._marked

    def marked(self) -> list[Database]:
        """The databases that are marked, dropped ones included."""
        return self._listed(f"SELECT {_COLUMNS} FROM database JOIN mark ON database_id = id", ())

    def sizes(self) -> list[tuple[str, str, str, int]]:
        """(account, service, database, bytes) of every database that is not dropped."""
        sql = "SELECT account_id, service_id, id, storage_bytes FROM database WHERE dropped = 0"

        def work(connection: Connection) -> list[Any]:
            return connection.execute(sql).fetchall()

        return self.file.read(work)

    async def unmark(self, sizes: Sequence[tuple[str, int]]) -> None:
        """These databases' files hold no usage rows and have these bytes."""

        def work(connection: Connection) -> None:
            for database_id, size in sizes:
                connection.execute("UPDATE database SET storage_bytes = ? WHERE id = ?", (size, database_id))
                connection.execute("DELETE FROM mark WHERE database_id = ?", (database_id,))

        await self.file.write(work, essential=True)
        self._marked.difference_update(database_id for database_id, _ in sizes)

    def plan(self, account_id: str) -> str:
        """The plan of an account that has written; empty where none is known."""
        return self._plans.get(account_id, "")

    async def note_plan(self, account_id: str, plan: str) -> None:
        """The account has this plan now, which bounds how long its history is kept."""
        if self._plans.get(account_id) != plan:
            await self._run("INSERT OR REPLACE INTO account_plan VALUES (?, ?)", account_id, plan)
            self._plans[account_id] = plan

    async def check(self) -> None:
        """Whether the catalog answers; raises StoreUnavailable."""
        self.file.read(lambda connection: connection.execute("SELECT 1").get)

    async def close(self) -> None:
        await self.file.close()

    def _listed(self, sql: str, params: tuple[str, ...]) -> list[Database]:
        work: Callable[[Connection], list[Database]] = lambda connection: [  # noqa: E731
            Database(*row) for row in connection.execute(sql, params)
        ]
        return self.file.read(work)

    async def _run(self, sql: str, *params: str) -> None:
        def work(connection: Connection) -> None:
            connection.execute(sql, params)

        await self.file.write(work, essential=True)


def take_over(connection: Connection, database: Database, units: Sequence[tuple[int, int, int]]) -> None:
    """The (epoch, lease, units) that a database's file held are the catalog's."""
    rows = [(epoch, lease, database.service_id, database.id, count) for epoch, lease, count in units]
    connection.executemany(ADD_USED, rows)


def _lock_id(path: Path) -> str:
    """What tells a locked file from its copies, and from itself on another machine."""
    told = path.stat()
    boot = Path("/proc/sys/kernel/random/boot_id")
    # Where there is no such file, one machine's locks are not told from another's by a start of it.
    machine = boot.read_text().strip() if boot.exists() else platform.node()
    return f"{machine}:{told.st_dev}:{told.st_ino}"
