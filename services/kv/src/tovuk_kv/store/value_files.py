"""Large values of the SQLite engine: one file each beside the database.

A file is written, synced, renamed into place and its folder synced before the transaction that links it. Names are
random and never used twice, so that a file's content never changes. A file no entry links is an orphan: of a put that
was refused or never committed. Files are unlinked after the commit that replaced them; an open one stays readable.
"""

import asyncio
import errno
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import BinaryIO, TypeVar

from tovuk_kit.errors import StorageFull, StoreUnavailable
from tovuk_kit.files import make_folder, sync_folder
from tovuk_kv.limits import CHUNK_BYTES
from tovuk_kv.store.base import Record

T = TypeVar("T")

#: What a file that is still being written ends with.
UNFINISHED = ".new"


class ValueFiles:
    """The folder of large values, 256 folders deep by the first two digits of the name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        make_folder(folder)

    def create(self) -> "FileUpload":
        """Begin a file of a fresh name."""
        return FileUpload(self._place(secrets.token_hex(16)))

    def open(self, name: str) -> BinaryIO:
        """The file for reading; raises FileNotFoundError when it was replaced meanwhile."""
        return self._place(name).open("rb", buffering=0)

    async def remove(self, names: Iterable[str]) -> None:
        """Unlink files that no entry links any more."""
        await asyncio.to_thread(self._unlink, list(names))

    def remove_orphans(self, is_linked: Callable[[str], bool]) -> int:
        """Unlink what no entry links, while nothing else writes; returns how many files."""
        orphans = [path for path in self._folder.glob("*/*") if not is_linked(path.name)]
        for path in orphans:
            path.unlink(missing_ok=True)
        return len(orphans)

    def _place(self, name: str) -> Path:
        return self._folder / name[:2] / name

    def _unlink(self, names: list[str]) -> None:
        for name in names:
            self._place(name).unlink(missing_ok=True)


class FileUpload:
    """A value on its way into its file."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.value_bytes = 0
        self._path = path
        self._unfinished = path.with_name(path.name + UNFINISHED)
        self._file: BinaryIO | None = None
        self._finished = False

    async def write(self, chunk: bytes) -> None:
        await _in_thread(self._write, chunk)
        self.value_bytes += len(chunk)

    async def finish(self) -> None:
        if not self._finished:
            await _in_thread(self._finish)
            self._finished = True

    async def abandon(self) -> None:
        await asyncio.to_thread(self._abandon)

    def _write(self, chunk: bytes) -> None:
        if self._file is None:
            make_folder(self._path.parent)
            self._file = self._unfinished.open("wb", buffering=0)
        view = memoryview(chunk)
        while view:
            view = view[self._file.write(view) :]

    def _finish(self) -> None:
        assert self._file is not None, "a large value is not empty"
        os.fsync(self._file.fileno())
        self._file.close()
        self._unfinished.rename(self._path)
        sync_folder(self._path.parent)

    def _abandon(self) -> None:
        if self._file is not None:
            self._file.close()
            self._unfinished.unlink(missing_ok=True)
            self._path.unlink(missing_ok=True)


class OpenFile:
    """A version of a large value; its file stays readable also when the key goes on without it."""

    def __init__(self, record: Record, file: BinaryIO) -> None:
        self.record = record
        self._file = file

    async def chunks(self) -> AsyncIterator[bytes]:
        left = self.record.value_bytes
        while left:
            chunk = await _in_thread(self._file.read, min(left, CHUNK_BYTES))
            if not chunk:
                raise StoreUnavailable
            left -= len(chunk)
            yield chunk

    async def close(self) -> None:
        self._file.close()


async def _in_thread(work: Callable[..., T], *args: object) -> T:
    try:
        return await asyncio.to_thread(work, *args)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(retry_after_ms=1000) from error
        raise StoreUnavailable(retry_after_ms=1000) from error
