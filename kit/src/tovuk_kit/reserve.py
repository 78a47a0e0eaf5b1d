"""A file of real blocks beside a store, given up when the disk is full so that deletes and usage can go on."""

import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)


class Reserve:
    """`size_bytes` of the disk, held by a file until they are needed."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path = path
        self.size_bytes = size_bytes
        self.held = False

    @property
    def exists(self) -> bool:
        """Whether the file is there, perhaps of an earlier process."""
        return self._path.exists()

    @property
    def free_bytes(self) -> int:
        """The room left on the disk."""
        disk = os.statvfs(self._path.parent)
        return disk.f_bavail * disk.f_frsize

    def make(self, *, spare_bytes: int = 0) -> bool:
        """Hold the reserve if the disk has its size and `spare_bytes` more; returns whether it is held."""
        if self.held:
            return True
        try:
            if self.exists and self._path.stat().st_blocks * 512 >= self.size_bytes:
                self.held = True
                return True
            if self.free_bytes < self.size_bytes + spare_bytes:
                return False
            with self._path.open("wb") as file:
                # A sparse file would hold nothing.
                os.posix_fallocate(file.fileno(), 0, self.size_bytes)
                os.fsync(file.fileno())
        except OSError as error:
            log.warning("cannot hold the reserve %s: %s", self._path.name, error)
            self._path.unlink(missing_ok=True)
            return False
        self.held = True
        return True

    def give_up(self) -> None:
        """Return the room to the disk, now: some filesystems free blocks only with their next journal commit."""
        self.held = False
        try:
            with self._path.open("r+b") as file:
                file.truncate(0)
                os.fsync(file.fileno())
            self._path.unlink()
        except OSError as error:
            log.warning("cannot give up the reserve %s: %s", self._path.name, error)
