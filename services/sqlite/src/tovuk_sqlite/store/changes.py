"""What a database's WAL holds beyond a copy of its file, page by page, as it grows; nobody copies it back meanwhile."""

import os
from pathlib import Path
from typing import Final

from tovuk_sqlite.store import wal
from tovuk_sqlite.store.wal import Salts

#: Frames of one reading.
_FRAMES_MAX: Final = 4_096


class Changes:
    """The pages that changed since the readings before; the first ones give the whole WAL. One thread at a time."""

    def __init__(self, file: Path, size_bytes: int) -> None:
        """`size_bytes` are those of the copy."""
        self._wal = file.with_name(f"{file.name}-wal")
        self._salts: Salts | None = None
        self._frames = 0
        self._checksum = (0, 0)
        #: Of the database, after the last commit that was read whole.
        self.size_bytes = size_bytes

    def read(self) -> list[tuple[int, bytes]]:
        """The next changed pages, by their offsets in the file; none when all that is committed was read."""
        try:
            fd = os.open(self._wal, os.O_RDONLY)
        except FileNotFoundError:
            return []
        try:
            header = wal.read_header(fd)
            if header is None:
                return []
            if header.salts != self._salts:
                # Begun anew, as all that it held was in the file before it was copied.
                self._salts, self._frames, self._checksum = header.salts, 0, header.checksum
            committed = wal.committed_frames(fd, header, self._frames, self._checksum)
            raw = wal.read_frames(fd, header, self._frames, min(committed - self._frames, _FRAMES_MAX))
            pages: dict[int, bytes] = {}
            for frame, page in wal.frames(raw, header):
                pages[frame.page] = bytes(page)
                self._frames += 1
                self._checksum = frame.checksum
                if frame.pages_after_commit:
                    self.size_bytes = frame.pages_after_commit * header.page_bytes
            return [((number - 1) * header.page_bytes, page) for number, page in sorted(pages.items())]
        finally:
            os.close(fd)
