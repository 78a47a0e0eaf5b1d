"""Files and folders whose names are on the disk, not only in memory: a name is durable when its folder is synced."""

import os
import threading
from pathlib import Path

_MAKING = threading.Lock()


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on the disk. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """Make a folder of this mode, and what is missing above it, durably, unless it is there. Raises OSError."""
    # Another thread that finds the folder may rely on it at once, so it must not find it before it is durable.
    with _MAKING:
        _make(folder, mode)


def write_private(path: Path, text: str) -> None:
    """Replace a file whose content only this user may read, whole or not at all, durably. Raises OSError."""
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.rename(path)
    sync_folder(path.parent)


def _make(folder: Path, mode: int = 0o777) -> None:
    if not folder.exists():
        _make(folder.parent)
        folder.mkdir(mode, exist_ok=True)
        sync_folder(folder.parent)
