"""Usage of one data folder: rows written stand in the databases' own files, rows read and the levels in the catalog.

One process owns the folder, so an epoch is fenced where this process commits: `Fence`. What the files hold is mirrored
in memory; marks in the catalog say which files a new process has to read.
"""

import asyncio
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Final

from tovuk_kit.sqlite_library import Connection
from tovuk_kit.usage import Fenced as StoreFenced
from tovuk_kit.usage import Level, UsageRow
from tovuk_sqlite.store.base import Charge, Database, Fenced, Writer
from tovuk_sqlite.store.catalog import ADD_USED, SqliteCatalog

METER: Final = "sqlite_storage_bytes"
#: A level's sequence rises across restarts: its upper part is the epoch.
_SEQ_EPOCH_SHIFT: Final = 32

#: Runs a job with a database's writer, exclusively.
Writing = Callable[[Database, Callable[[Writer], Any]], Awaitable[Any]]


class Fence:
    """Which epochs are dead, for commits of any thread. After `fence` returns nothing more is committed under one."""

    def __init__(self, check: Callable[[], None]) -> None:
        """`check` raises where nothing may be committed at all."""
        self._check = check
        self._dead: set[int] = set()
        self._committing: dict[int, int] = defaultdict(int)
        self._changed = threading.Condition()

    @contextmanager
    def passing(self, epochs: Collection[int]) -> Iterator[None]:
        """Around a commit that is charged to these epochs. Raises Fenced, and what the check raises."""
        self._check()
        with self._changed:
            if not self._dead.isdisjoint(epochs):
                raise Fenced
            for epoch in epochs:
                self._committing[epoch] += 1
        try:
            yield
        finally:
            with self._changed:
                for epoch in epochs:
                    self._committing[epoch] -= 1
                self._changed.notify_all()

    def dead(self, epochs: Collection[int]) -> set[int]:
        """Those that are dead."""
        with self._changed:
            return self._dead & set(epochs)

    def close(self, epoch: int) -> None:
        """The epoch is dead; blocks until commits under it have ended."""
        with self._changed:
            self._dead.add(epoch)
            self._changed.wait_for(lambda: not self._committing[epoch])


class FolderUsage:
    """The UsageStore of one data folder."""

    exclusive = True

    def __init__(self, catalog: SqliteCatalog, writing: Writing, check: Callable[[], None]) -> None:
        """`check` raises where nothing may be committed."""
        self.name = catalog.store_name
        self.fence_of_commits = Fence(check)
        self._catalog = catalog
        self._file = catalog.file
        self._writing = writing
        self._epoch = 0
        #: Units of rows written by (epoch, lease) and database, as the files hold them.
        self._written: dict[tuple[int, int], dict[Database, int]] = {}
        #: Bytes by account and database.
        self._sizes: dict[str, dict[str, tuple[str, int]]] = defaultdict(dict)
        self._seqs: dict[str, int] = {}
        self._allowances: dict[str, tuple[int, int]] = {}
        #: Bytes that running writes may still add, by account.
        self.held: dict[str, int] = defaultdict(int)
        #: Held while units move from a file to the catalog: nobody may count them twice, or not at all.
        self._moving = asyncio.Lock()

    async def load(self) -> None:
        """Learn what the folder holds; before anything is written."""
        for account_id, service_id, database_id, size in self._catalog.sizes():
            self._sizes[account_id][database_id] = (service_id, size)
        settled: list[tuple[str, int]] = []
        for database in self._catalog.marked():
            size, rows = await self._writing(database, lambda writer: (writer.storage_bytes(), writer.usage()))
            sizes = self._sizes[database.account_id]
            if database.id in sizes:
                sizes[database.id] = (database.service_id, size)
            for row in rows:
                if row.store == self.name:
                    self._written.setdefault((row.epoch, row.lease_id), {})[database] = row.units
            if not rows:
                settled.append((database.id, size))
        await self._catalog.unmark(settled)
        rows_read: list[Any] = self._file.read(
            lambda connection: connection.execute("SELECT account_id, bytes, version FROM allowance").fetchall()
        )
        self._allowances = {account_id: (size, version) for account_id, size, version in rows_read}

    # What queries do.

    def add_written(self, database: Database, totals: dict[Charge, int]) -> None:
        """The file's usage rows now have these totals, durably."""
        for charge, total in totals.items():
            units = self._written.setdefault((charge.epoch, charge.lease_id), {})
            # They come from several commits, in any order.
            units[database] = max(total, units.get(database, 0))

    def resize(self, database: Database, size: int | None) -> bool:
        """The file now has so many bytes, or is gone; whether that changed the level."""
        sizes = self._sizes[database.account_id]
        old = sizes.get(database.id)
        if old is not None and old[1] == size:
            return False
        if size is None:
            sizes.pop(database.id, None)
        else:
            sizes[database.id] = (database.service_id, size)
        self._seqs[database.account_id] = self._seqs.get(database.account_id, 0) + 1
        return True

    @asynccontextmanager
    async def leaving(self, database: Database) -> AsyncIterator[list[tuple[int, int, int]]]:
        """Around the transaction that puts the database's next generation in place: (epoch, lease, units) of this one.

        That transaction adds them to the catalog's. If it raises, they stay where they are.
        """
        async with self._moving:
            held = [(key, units[database]) for key, units in self._written.items() if database in units]
            yield [(epoch, lease, count) for (epoch, lease), count in held]
            for key, _ in held:
                self._written[key].pop(database, None)

    def has_usage(self, database: Database) -> bool:
        """Whether the file holds usage rows that metering has not confirmed."""
        return any(database in units for units in self._written.values())

    def size(self, database: Database) -> int:
        """Bytes of the file."""
        return self._sizes[database.account_id].get(database.id, ("", 0))[1]

    def account_bytes(self, account_id: str) -> int:
        """Bytes of all files of the account."""
        return sum(size for _, size in self._sizes[account_id].values())

    def allowance(self, account_id: str) -> int:
        """How far the account's level may rise."""
        return self._allowances.get(account_id, (0, 0))[0]

    # The port.

    async def begin_epoch(self) -> int:
        def work(connection: Connection) -> int:
            connection.execute("UPDATE epoch SET live = 0 WHERE live = 1")
            connection.execute("INSERT INTO epoch (live) VALUES (1)")
            return connection.last_insert_rowid()

        self._epoch = await self._file.write(work, essential=True)
        return self._epoch

    async def dead_epochs(self) -> list[int]:
        sql = "SELECT DISTINCT epoch FROM used"
        counted = self._file.read(lambda connection: [epoch for (epoch,) in connection.execute(sql)])
        return sorted(({epoch for epoch, _ in self._written} | set(counted)) - {self._epoch})

    async def fence(self, epoch: int) -> None:
        def work(connection: Connection) -> None:
            connection.execute("UPDATE epoch SET live = 0 WHERE number = ?", (epoch,))

        await self._file.write(work, essential=True)
        await self._file.read_in_thread(lambda _: self.fence_of_commits.close(epoch))

    async def usage(self, epoch: int, leases: Collection[int] | None) -> list[UsageRow]:
        sql = "SELECT lease, service_id, resource_id, units FROM used WHERE epoch = ?"
        units: dict[tuple[int, str, str], int] = defaultdict(int)
        async with self._moving:
            counted: list[Any] = self._file.read(lambda connection: connection.execute(sql, (epoch,)).fetchall())
            for lease, service_id, resource_id, count in counted:
                if leases is None or lease in leases:
                    units[lease, service_id, resource_id] += count
            keys = (
                [key for key in self._written if key[0] == epoch]
                if leases is None
                else [(epoch, lease) for lease in leases if (epoch, lease) in self._written]
            )
            for key in keys:
                for database, count in self._written[key].items():
                    units[key[1], database.service_id, database.id] += count
        return [UsageRow(*line, count) for line, count in units.items()]

    async def add(self, epoch: int, rows: Sequence[UsageRow]) -> None:
        def work(connection: Connection) -> None:
            if connection.execute("SELECT live FROM epoch WHERE number = ?", (epoch,)).get != 1:
                raise StoreFenced
            connection.executemany(
                ADD_USED, [(epoch, row.lease_id, row.service_id, row.resource_id, row.units) for row in rows]
            )

        await self._file.write(work, essential=True)

    async def forget(self, epoch: int, leases: Collection[int] | None) -> None:
        keys = [key for key in self._written if key[0] == epoch and (leases is None or key[1] in leases)]
        for database in {database for key in keys for database in self._written[key]}:
            ids = None if leases is None else sorted(leases)
            await self._writing(database, partial(_forget, self.name, epoch, ids))
        for key in keys:
            self._written.pop(key, None)

        def work(connection: Connection) -> None:
            if leases is None:
                connection.execute("DELETE FROM used WHERE epoch = ?", (epoch,))
                connection.execute("DELETE FROM epoch WHERE number = ? AND live = 0", (epoch,))
            else:
                for lease in leases:
                    connection.execute("DELETE FROM used WHERE epoch = ? AND lease = ?", (epoch, lease))

        await self._file.write(work, essential=True)

    async def level(self, account_id: str, meter: str) -> Level:
        lines = tuple((service, database, size) for database, (service, size) in self._sizes[account_id].items())
        allowance, version = self._allowances.get(account_id, (0, 0))
        seq = (self._epoch << _SEQ_EPOCH_SHIFT) + self._seqs.get(account_id, 0)
        return Level(account_id, meter, self.account_bytes(account_id), allowance, version, seq, lines)

    async def levels(self) -> list[Level]:
        accounts = {account_id for account_id, sizes in self._sizes.items() if sizes} | set(self._allowances)
        return [await self.level(account_id, METER) for account_id in sorted(accounts)]

    async def set_allowance(self, account_id: str, meter: str, version: int, allowance: int) -> None:
        if version > self._allowances.get(account_id, (0, 0))[1]:
            await self._keep_allowance(account_id, allowance, version)

    async def trim_allowance(self, account_id: str, meter: str) -> Level:
        # Room that a running write holds is not given away.
        kept = self.account_bytes(account_id) + self.held.get(account_id, 0)
        _, version = self._allowances.get(account_id, (0, 0))
        await self._keep_allowance(account_id, kept, version)
        return await self.level(account_id, meter)

    async def _keep_allowance(self, account_id: str, size: int, version: int) -> None:
        self._allowances[account_id] = (size, version)

        def work(connection: Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO allowance VALUES (?, ?, ?)", (account_id, size, version))

        await self._file.write(work, essential=True)


def _forget(store: str, epoch: int, lease_ids: Sequence[int] | None, writer: Writer) -> None:
    writer.forget(store, epoch, lease_ids)
