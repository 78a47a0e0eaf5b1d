"""A file system with little room, and how to take all of it."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(disk: Path, size_mib: int) -> Iterator[Path]:
    """A small file system at a new folder while the block runs; skips the test where none can be mounted."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(disk)]).returncode != 0:
        pytest.skip("this machine does not let tests mount a tmpfs")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Take all the room that is left; the file that holds it."""
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for step in (1 << 20, 1 << 12):
            try:
                while True:
                    file.write(bytes(step))
            except OSError:
                continue
    return ballast
