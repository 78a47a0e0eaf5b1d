"""The process whose disk fills up: runs through a full disk and back, and prints what it saw as JSON.

python full_disk.py FOLDER ENGINE    (a small filesystem of its own; the library of that engine)
"""

import asyncio
import contextlib
import json
import os
import sys
import time
from pathlib import Path

from sqlite_node import engine_of

from tovuk_kit.errors import StorageFull
from tovuk_kit.migrations import Migration
from tovuk_kit.sqlite import SqliteFile
from tovuk_kit.sqlite_library import Connection, Library

ROW_BYTES = 10_000
BALLAST_BYTES = 20 << 20
USAGE_WRITES = 5_000
SCHEMA = Migration(
    1,
    "rows",
    "CREATE TABLE row (n INTEGER PRIMARY KEY, data BLOB NOT NULL);"
    "CREATE TABLE usage (id INTEGER PRIMARY KEY, units INTEGER NOT NULL);",
    "DROP TABLE row; DROP TABLE usage;",
)


class Scenario:
    def __init__(self, folder: Path, library: Library[Connection]) -> None:
        self.path = folder / "a.db"
        self.library = library
        self.open()
        self.rows: set[int] = set()
        self.next = 0
        self.units = 0

    def open(self) -> None:
        self.file = SqliteFile.open(self.path, self.library, migrations=[SCHEMA])

    async def add_row(self) -> bool:
        n, self.next = self.next, self.next + 1
        try:
            await self.file.write(lambda c: c.execute("INSERT INTO row VALUES (?, ?)", (n, os.urandom(ROW_BYTES))))
        except StorageFull:
            return False
        self.rows.add(n)
        return True

    async def fill(self) -> None:
        while await self.add_row():
            pass

    async def add_rows_until(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not await self.add_row():
            if time.monotonic() > end:
                return False
            await asyncio.sleep(0.02)
        return True

    async def delete(self, numbers: list[int]) -> None:
        for n in numbers:
            await self.file.write(lambda c, n=n: c.execute("DELETE FROM row WHERE n = ?", (n,)), essential=True)
            self.rows.discard(n)

    async def count_usage(self, writes: int) -> None:
        for number in range(writes):
            await self.file.write(lambda c, line=number % 500: add_unit(c, line), essential=True)
            self.units += 1

    def rows_read(self) -> int:
        return self.file.read(lambda c: c.execute("SELECT count(*) FROM row").get)

    def intact(self) -> bool:
        return self.file.read(
            lambda c: (
                c.execute("PRAGMA integrity_check").get == "ok"
                and {row[0] for row in c.execute("SELECT n FROM row")} == self.rows
                and c.execute("SELECT coalesce(sum(units), 0) FROM usage").get == self.units
            )
        )


def add_unit(connection: Connection, line: int) -> None:
    connection.execute("INSERT INTO usage VALUES (?, 1) ON CONFLICT DO UPDATE SET units = units + 1", (line,))


async def main(folder: Path, library: Library[Connection]) -> dict[str, object]:
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(BALLAST_BYTES))
    seen: dict[str, object] = {}
    run = Scenario(folder, library)
    reserve = folder / "a.db.reserve"
    seen["reserve held at first"] = reserve.exists()
    await run.fill()
    seen["rows before the disk was full"] = len(run.rows)
    seen["reserve held when full"] = reserve.exists()
    seen["reads go on"] = run.rows_read() == len(run.rows)
    await run.count_usage(USAGE_WRITES)
    await run.delete(sorted(run.rows)[:20])
    seen["essential writes while full"] = run.units
    seen["still full"] = not await run.add_row()
    seen["intact while full"] = run.intact()
    await run.delete(sorted(run.rows)[: len(run.rows) // 2])
    seen["deletes make room"] = await run.add_rows_until(5)
    await run.fill()
    seen["full again"] = run.rows_read()
    ballast.unlink()
    seen["recovers with the disk"] = await run.add_rows_until(5)
    seen["intact at the end"] = run.intact()
    await run.file.close()
    run.open()
    seen["intact when opened again"] = run.intact()
    await run.file.close()
    seen["reserve held at the end"] = reserve.exists()
    fill_up(ballast)
    run.open()
    await run.delete(sorted(run.rows)[:20])
    seen["opens on a full disk"] = run.intact()
    await run.file.close()
    return seen


def fill_up(path: Path) -> None:
    """Take all the room there is."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(65536)):
            pass


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(Path(sys.argv[1]), engine_of(sys.argv[2]).library))))  # noqa: T201 -- for the test
