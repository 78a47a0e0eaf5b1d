"""The process that is killed: writes through SqliteFile and says on stdout what was acknowledged.

    python writer.py DATABASE FIRST [--trace FILE] [--synchronous LEVEL]

Work `n` inserts event `n`, moves slot `n mod 50` to version `n`, and every third takes event `n - 500` away again. With
`--trace` each write and sync of the database's files is recorded, so that a power cut can be played over it.
"""

import argparse
import asyncio
import hashlib
import os
import stat
import struct
import threading
from functools import partial
from pathlib import Path

import apsw

from tovuk_kit import sqlite
from tovuk_kit.migrations import Migration
from tovuk_kit.sqlite import SqliteFile
from tovuk_kit.sqlite_apsw import ApswLibrary

IN_FLIGHT = 32
BASE_VFS = "unix"
SCHEMA = Migration(
    1,
    "events",
    "CREATE TABLE event (n INTEGER PRIMARY KEY, payload BLOB NOT NULL);"
    "CREATE TABLE slot (id INTEGER PRIMARY KEY, version INTEGER NOT NULL, payload BLOB NOT NULL);",
    "DROP TABLE slot; DROP TABLE event;",
)


def payload(n: int) -> bytes:
    return hashlib.shake_128(b"%d" % n).digest(20 + n * 7919 % 3000)


def effect(connection: apsw.Connection, n: int) -> None:
    connection.execute("INSERT INTO event VALUES (?, ?)", (n, payload(n)))
    connection.execute(
        "INSERT INTO slot VALUES (?, ?, ?)"
        " ON CONFLICT DO UPDATE SET version = excluded.version, payload = excluded.payload",
        (n % 50, n, payload(n)),
    )
    if n % 3 == 0:
        connection.execute("DELETE FROM event WHERE n = ?", (n - 500,))


class Trace:
    """A record of everything that happens to the files: kind, file, two numbers, data; one write each."""

    HEADER = struct.Struct("<cIQI")

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.lock = threading.Lock()
        self._files = 0
        self._syncs = 0

    def add(self, kind: bytes, file: int = 0, number: int = 0, data: bytes = b"") -> None:
        record = self.HEADER.pack(kind, file, number, len(data)) + data
        assert os.write(self._fd, record) == len(record)

    def new_file(self) -> int:
        self._files += 1
        return self._files

    def new_sync(self) -> int:
        self._syncs += 1
        return self._syncs


class TracedFile(apsw.VFSFile):
    def __init__(self, trace: Trace, name: str, filename: object, flags: list[int]) -> None:
        self._trace = trace
        with trace.lock:
            self._id = trace.new_file()
            super().__init__(BASE_VFS, filename, flags)
            trace.add(b"O", self._id, 0, name.encode())

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 -- apsw's name
        with self._trace.lock:
            self._trace.add(b"W", self._id, offset, bytes(data))
            super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 -- apsw's name
        with self._trace.lock:
            self._trace.add(b"T", self._id, newsize)
            super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802 -- apsw's name
        with self._trace.lock:
            token = self._trace.new_sync()
            self._trace.add(b"B", self._id, token)
        super().xSync(flags)
        with self._trace.lock:
            self._trace.add(b"E", self._id, token)


class TracedVfs(apsw.VFS):
    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        super().__init__("traced", BASE_VFS, makedefault=True)

    def xOpen(self, name: object, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 -- apsw's name
        kept = apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL
        if name is None or not flags[0] & kept:
            return apsw.VFSFile(BASE_VFS, name, flags)
        path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        return TracedFile(self._trace, Path(path).name, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802 -- apsw's name
        with self._trace.lock:
            super().xDelete(filename, syncdir)
            self._trace.add(b"D", 0, int(syncdir), Path(filename).name.encode())


def trace_folder_syncs(trace: Trace) -> None:
    """SqliteFile makes the database's name durable itself, by a sync of the folder."""
    fsync = os.fsync

    def traced(fd: int) -> None:
        fsync(fd)
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            with trace.lock:
                trace.add(b"Y")

    os.fsync = traced


async def main(database: Path, first: int, trace: Trace | None) -> None:
    file = SqliteFile.open(database, ApswLibrary(), migrations=[SCHEMA], reserve_bytes=65536)
    numbers = iter(range(first, first + 10_000_000))

    def send() -> None:
        n = next(numbers)
        file.submit(lambda connection: effect(connection, n), partial(acknowledge, n))

    def acknowledge(n: int, result: object) -> None:
        if isinstance(result, BaseException):
            raise SystemExit(f"work {n}: {result!r}")
        if trace:
            with trace.lock:
                trace.add(b"A", 0, n)
        try:
            os.write(1, b"%d\n" % n)
        except BrokenPipeError:
            # The test was ended before it could kill this.
            os._exit(1)
        send()

    for _ in range(IN_FLIGHT):
        send()
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("database", type=Path)
    parser.add_argument("first", type=int)
    parser.add_argument("--trace", type=Path)
    parser.add_argument("--synchronous", default="FULL")
    arguments = parser.parse_args()
    # The product has no such switch: this shows that the tests would notice.
    sqlite.WRITER_PRAGMAS = (*sqlite.WRITER_PRAGMAS, f"synchronous = {arguments.synchronous}")
    trace = None
    if arguments.trace:
        trace = Trace(arguments.trace)
        vfs = TracedVfs(trace)
        trace_folder_syncs(trace)
    asyncio.run(main(arguments.database, arguments.first, trace))
