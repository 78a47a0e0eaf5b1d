"""Epochs, usage rows and levels in the SQLite file: what the metering protocol keeps beside the effects."""

from collections.abc import Collection, Sequence
from typing import Any

import apsw

from tovuk_kit.sqlite import SqliteFile
from tovuk_kit.usage import Fenced, Level, UsageRow

ADD_USAGE = (
    "INSERT INTO used VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (epoch, lease, service_id, resource_id) DO UPDATE SET units = units + excluded.units"
)


class SqliteUsage:
    """The UsageStore of one SQLite file, which one process owns."""

    exclusive = True

    def __init__(self, file: SqliteFile[apsw.Connection], name: str) -> None:
        self.name = name
        self._file = file

    async def begin_epoch(self) -> int:
        def work(connection: apsw.Connection) -> int:
            connection.execute("UPDATE epoch SET live = 0 WHERE live = 1")
            connection.execute("INSERT INTO epoch (live) VALUES (1)")
            return connection.last_insert_rowid()

        return await self._file.write(work, essential=True)

    async def dead_epochs(self) -> list[int]:
        sql = "SELECT DISTINCT epoch FROM used JOIN epoch ON number = epoch WHERE live = 0"
        return self._file.read(lambda connection: [epoch for (epoch,) in connection.execute(sql)])

    async def fence(self, epoch: int) -> None:
        await self._run("UPDATE epoch SET live = 0 WHERE number = ?", epoch)

    async def usage(self, epoch: int, leases: Collection[int] | None) -> list[UsageRow]:
        sql = "SELECT lease, service_id, resource_id, units FROM used WHERE epoch = ?"

        def work(connection: apsw.Connection) -> list[UsageRow]:
            if leases is None:
                return [UsageRow(*row) for row in connection.execute(sql, (epoch,))]
            one = f"{sql} AND lease = ?"
            return [UsageRow(*row) for lease in leases for row in connection.execute(one, (epoch, lease))]

        return self._file.read(work)

    async def add(self, epoch: int, rows: Sequence[UsageRow]) -> None:
        def work(connection: apsw.Connection) -> None:
            if not is_live(connection, epoch):
                raise Fenced
            connection.executemany(
                ADD_USAGE, [(epoch, row.lease_id, row.service_id, row.resource_id, row.units) for row in rows]
            )

        await self._file.write(work, essential=True)

    async def forget(self, epoch: int, leases: Collection[int] | None) -> None:
        def work(connection: apsw.Connection) -> None:
            if leases is None:
                connection.execute("DELETE FROM used WHERE epoch = ?", (epoch,))
                connection.execute("DELETE FROM epoch WHERE number = ? AND live = 0", (epoch,))
            else:
                connection.executemany(
                    "DELETE FROM used WHERE epoch = ? AND lease = ?", [(epoch, lease) for lease in leases]
                )

        await self._file.write(work, essential=True)

    async def level(self, account_id: str, meter: str) -> Level:
        return self._file.read(lambda connection: _level(connection, account_id, meter))

    async def levels(self) -> list[Level]:
        def work(connection: apsw.Connection) -> list[Level]:
            keys: list[Any] = connection.execute("SELECT account_id, meter FROM level").fetchall()
            return [_level(connection, account_id, meter) for account_id, meter in keys]

        return await self._file.read_in_thread(work)

    async def set_allowance(self, account_id: str, meter: str, version: int, allowance: int) -> None:
        sql = (
            "INSERT INTO level (account_id, meter, version, allowance) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (account_id, meter) DO UPDATE"
            " SET version = excluded.version, allowance = excluded.allowance WHERE excluded.version > version"
        )
        await self._run(sql, account_id, meter, version, allowance)

    async def trim_allowance(self, account_id: str, meter: str) -> Level:
        def work(connection: apsw.Connection) -> Level:
            sql = "UPDATE level SET allowance = bytes WHERE account_id = ? AND meter = ?"
            connection.execute(sql, (account_id, meter))
            return _level(connection, account_id, meter)

        return await self._file.write(work, essential=True)

    async def _run(self, sql: str, *parameters: str | int) -> None:
        def work(connection: apsw.Connection) -> None:
            connection.execute(sql, parameters)

        await self._file.write(work, essential=True)


def is_live(connection: apsw.Connection, epoch: int) -> bool:
    """Whether effects may be charged to the epoch."""
    live: object = connection.execute("SELECT live FROM epoch WHERE number = ?", (epoch,)).get
    return live == 1


def _level(connection: apsw.Connection, account_id: str, meter: str) -> Level:
    sql = "SELECT bytes, allowance, version, seq FROM level WHERE account_id = ? AND meter = ?"
    row: Any = connection.execute(sql, (account_id, meter)).fetchone() or (0, 0, 0, 0)
    sql = "SELECT service_id, resource_id, bytes FROM level_line WHERE account_id = ? AND meter = ? AND bytes > 0"
    lines: list[Any] = connection.execute(sql, (account_id, meter)).fetchall()
    size, allowance, version, seq = row
    return Level(account_id, meter, size, allowance, version, seq, tuple(lines))
