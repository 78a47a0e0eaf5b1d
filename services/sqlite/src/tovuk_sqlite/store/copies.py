"""Copies of databases that nobody has open: cleaned of our own rows, checked, measured."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from tovuk_kit.files import sync_folder
from tovuk_kit.sqlite_errors import translated
from tovuk_sqlite.errors import BackupDamaged
from tovuk_sqlite.store.base import Engine, Writer


@contextlib.contextmanager
def faults() -> Iterator[None]:
    """Tell what goes wrong with the disk."""
    try:
        yield
    except OSError as error:
        raise translated(error) from error


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
