"""What a database's WAL holds beyond a copy of its file, page by page, as it grows.

What was read is kept in a file of our own, each page once, as it was last. So the WAL may be copied back and begun anew
as soon as all of it was read.
"""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tovuk_sqlite.store import wal
from tovuk_sqlite.store.wal import Salts

#: Frames of one reading, and pages that are taken at once.
_FRAMES_MAX: Final = 1_024
_PAGES_MAX: Final = 4_096


class Changes:
    """The pages that changed since a copy was made; at first, all that the WAL holds. For any thread."""

    def __init__(
        self, file: Path, size_bytes: int, spill: Path, committed: Callable[[], tuple[Salts, int] | None]
    ) -> None:
        """`size_bytes` are those of the copy, and `spill` is a new file for what was read.

        `committed` gives how many frames of which run of the WAL are surely committed, where that is known.
        """
        self._wal = file.with_name(f"{file.name}-wal")
        self._spill = spill
        self._committed = committed
        self._lock = threading.Lock()
        self._salts: Salts | None = None
        self._frames = 0
        self._checksum = (0, 0)
        self._page_bytes = 0
        #: Numbers of the pages that nobody has taken since they changed.
        self._changed: set[int] = set()
        #: Of the database, after the last commit that was read.
        self.size_bytes = size_bytes
        self._closed = False
        spill.touch(mode=0o600)

    def follow(self) -> None:
        """Read all that was committed before the call. Afterwards the WAL may be copied back."""
        with self._lock:
            if self._closed:
                return
            known = self._committed()
            try:
                fd = os.open(self._wal, os.O_RDONLY)
            except FileNotFoundError:
                return
            try:
                header = wal.read_header(fd)
                if header is not None:
                    self._follow(fd, header, known)
            finally:
                os.close(fd)

    def take(self) -> list[tuple[int, bytes]]:
        """The next changed pages, by their offsets in the file; none when all that is committed was taken."""
        self.follow()
        with self._lock, self._spill.open("rb") as spill:
            taken = sorted(self._changed)[:_PAGES_MAX]
            pages = []
            for number in taken:
                offset = (number - 1) * self._page_bytes
                pages.append((offset, os.pread(spill.fileno(), self._page_bytes, offset)))
            self._changed.difference_update(taken)
            return pages

    def close(self) -> None:
        """Nothing is read any more; what was kept goes."""
        with self._lock:
            self._closed = True
            self._spill.unlink(missing_ok=True)

    def _follow(self, fd: int, header: wal.Header, known: tuple[Salts, int] | None) -> None:
        if header.salts != self._salts:
            # Begun anew, as all that it held was copied back: it was read before, or was in the file that was copied.
            self._salts, self._frames, self._checksum = header.salts, 0, header.checksum
        self._page_bytes = header.page_bytes
        if known is not None and known[0] == header.salts:
            committed = known[1]
        else:
            committed = wal.committed_frames(fd, header, self._frames, self._checksum)
        with self._spill.open("r+b", buffering=0) as spill:
            while self._frames < committed:
                raw = wal.read_frames(fd, header, self._frames, min(committed - self._frames, _FRAMES_MAX))
                for frame, page in wal.frames(raw, header):
                    os.pwrite(spill.fileno(), page, (frame.page - 1) * header.page_bytes)
                    self._changed.add(frame.page)
                    self._frames += 1
                    self._checksum = frame.checksum
                    if frame.pages_after_commit:
                        self.size_bytes = frame.pages_after_commit * header.page_bytes
