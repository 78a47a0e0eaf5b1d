"""SQLite's write-ahead log as a file: who alone writes and checkpoints a database may read it beside SQLite.

The format is that of SQLite's file format documentation, chapter 4. A WAL is begun anew, under other salts, after all
of it was copied back; frames of other salts are left over from before.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

_HEADER: Final = struct.Struct(">8I")
_FRAME: Final = struct.Struct(">6I")
HEADER_BYTES: Final = _HEADER.size
FRAME_HEADER_BYTES: Final = _FRAME.size
_MAGIC: Final = 0x377F0682


class Salts(NamedTuple):
    """What distinguishes one run of a WAL from the next: the first one counts up by one."""

    run: int
    random: int


@dataclass(frozen=True, slots=True)
class Header:
    """A WAL's first bytes."""

    page_bytes: int
    salts: Salts
    #: The order of the bytes that checksums are computed over, as struct names it.
    order: str
    checksum: tuple[int, int]

    @property
    def frame_bytes(self) -> int:
        """A frame's header and its page."""
        return FRAME_HEADER_BYTES + self.page_bytes


class Frame(NamedTuple):
    """A frame's header: which page it holds, and the database's pages after the commit it ends, or 0."""

    page: int
    pages_after_commit: int
    salts: Salts
    checksum: tuple[int, int]


def read_header(fd: int) -> Header | None:
    """None where there is no whole header."""
    raw = os.pread(fd, HEADER_BYTES, 0)
    if len(raw) < HEADER_BYTES:
        return None
    magic, _, page_bytes, _, run, random, first, second = _HEADER.unpack(raw)
    order = ">" if magic & 1 else "<"
    if magic & ~1 != _MAGIC or _checksum(order, raw[:24], (0, 0)) != (first, second):
        return None
    return Header(page_bytes, Salts(run, random), order, (first, second))


def read_salts(fd: int) -> Salts | None:
    """The salts alone; None where there is no WAL yet."""
    raw = os.pread(fd, 8, 16)
    return Salts(*struct.unpack(">2I", raw)) if len(raw) == 8 else None


def read_frames(fd: int, header: Header, first: int, count: int) -> bytes:
    """The bytes of frames, fewer where the file ends before."""
    return os.pread(fd, count * header.frame_bytes, HEADER_BYTES + first * header.frame_bytes)


def frames(raw: bytes, header: Header) -> Iterator[tuple[Frame, memoryview]]:
    """Whole frames in these bytes, each with its page."""
    view = memoryview(raw)
    for at in range(0, len(raw) - header.frame_bytes + 1, header.frame_bytes):
        page, after, run, random, first, second = _FRAME.unpack_from(raw, at)
        yield (
            Frame(page, after, Salts(run, random), (first, second)),
            view[at + FRAME_HEADER_BYTES :][: header.page_bytes],
        )


def committed_frames(fd: int, header: Header, first: int, checksum: tuple[int, int]) -> int:
    """How many frames there are up to the last commit, as SQLite itself finds them after a crash.

    Frames before `first`, whose checksum is given, are known to be good.
    """
    found = number = first
    while raw := read_frames(fd, header, number, 256):
        for frame, page in frames(raw, header):
            head = _FRAME.pack(frame.page, frame.pages_after_commit, *frame.salts, *frame.checksum)[:8]
            checksum = _checksum(header.order, page, _checksum(header.order, head, checksum))
            if frame.salts != header.salts or frame.checksum != checksum:
                return found
            number += 1
            if frame.pages_after_commit:
                found = number
        if len(raw) < 256 * header.frame_bytes:
            break
    return found


def _checksum(order: str, data: bytes | memoryview, start: tuple[int, int]) -> tuple[int, int]:
    first, second = start
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second
