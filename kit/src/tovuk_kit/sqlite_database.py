"""The kit's relational port over one SQLite file."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Self, TypeVar

import apsw

from tovuk_kit.database import Tx
from tovuk_kit.migrations import Migration
from tovuk_kit.sqlite import SqliteFile
from tovuk_kit.sqlite_apsw import ApswLibrary
from tovuk_kit.sqlite_tx import SqliteTx

T = TypeVar("T")

_LIBRARY: Final = ApswLibrary()


class SqliteDatabase:
    """A `Database` in one file; its writes are committed in groups."""

    def __init__(self, file: SqliteFile[apsw.Connection], *, essential: bool = False) -> None:
        self._file = file
        self._essential = essential

    @classmethod
    def open(cls, path: Path, *, migrations: Sequence[Migration] = (), essential: bool = False) -> Self:
        """Open or create the file; raises what SqliteFile.open raises."""
        return cls(SqliteFile.open(path, _LIBRARY, migrations=migrations), essential=essential)

    async def write(self, work: Callable[[Tx], T]) -> T:
        return await self._file.write(lambda connection: _run(connection, work), essential=self._essential)

    async def read(self, work: Callable[[Tx], T]) -> T:
        return await self._file.read_in_thread(lambda connection: _run(connection, work))

    async def close(self) -> None:
        await self._file.close()


def _run(connection: apsw.Connection, work: Callable[[Tx], T]) -> T:
    tx = SqliteTx(connection, _LIBRARY)
    result = work(tx)
    if tx.failed is not None:
        raise tx.failed
    return result
