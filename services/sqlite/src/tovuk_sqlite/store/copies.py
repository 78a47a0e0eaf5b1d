"""Copies of databases that nobody has open: cleaned of our own rows, checked, measured."""

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from tovuk_kit.files import sync_folder
from tovuk_kit.sqlite_errors import translated
from tovuk_sqlite.errors import BackupDamaged
from tovuk_sqlite.store.base import Engine, Writer

#: What is written before it is synced; the disk has it after some milliseconds.
_PIECE_BYTES: Final = 1024 * 1024
_SYNC_EVERY_S: Final = 0.003


@contextlib.contextmanager
def faults() -> Iterator[None]:
    """Tell what goes wrong with the disk."""
    try:
        yield
    except OSError as error:
        raise translated(error) from error


class Source(Protocol):
    """What is copied."""

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most so many; none at the end."""
        ...


def pour(source: Source, file: BinaryIO) -> None:
    """Copy into a file, durably, each piece synced: commits of others would wait behind a sync of all of it."""
    while piece := source.read(_PIECE_BYTES):
        file.write(piece)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def syncing(path: Path) -> Iterator[None]:
    """Sync a file that the block makes as it grows: commits of others would wait behind a sync of all of it."""
    ended = threading.Event()

    def sync() -> None:
        while not path.exists():
            if ended.wait(_SYNC_EVERY_S):
                return
        # Whoever writes it syncs it at its end, and is told of faults.
        with contextlib.suppress(OSError), path.open("rb") as file:
            while not ended.wait(_SYNC_EVERY_S):
                os.fsync(file.fileno())

    thread = threading.Thread(target=sync, name="sync")
    thread.start()
    try:
        yield
    finally:
        # The file is closed after the block: that lets go of the locks that SQLite has on it meanwhile.
        ended.set()
        thread.join()


def clean(engine: Engine, path: Path) -> None:
    """Leave the one file, durably, without usage rows: those are told to metering from the database itself."""
    writer = engine.open_writer(path)
    try:
        forget_usage(writer)
        writer.checkpoint()
    finally:
        writer.close()
    settle(path)


def forget_usage(writer: Writer) -> None:
    """Remove every usage row."""
    for store, epoch in {(charge.store, charge.epoch) for charge in writer.usage()}:
        writer.forget(store, epoch, None)


def check(engine: Engine, path: Path) -> None:
    """Raises BackupDamaged unless SQLite finds the file whole."""
    problems = engine.problems(path)
    settle(path)
    if problems:
        raise BackupDamaged from ValueError("; ".join(problems))


def sha256(path: Path) -> str:
    """Of the file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def settle(path: Path) -> None:
    """Everything is in the file itself, durably: what lies beside it goes."""
    for suffix in ("-wal", "-shm"):
        path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)
    with path.open("rb") as file:
        os.fsync(file.fileno())
    sync_folder(path.parent)
