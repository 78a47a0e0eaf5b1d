"""Where the history of a generation stands: what its WAL has, and how much of that is in the archive."""

import threading
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple, Self

from tovuk_sqlite.limits import PAGE_BYTES
from tovuk_sqlite.store import wal
from tovuk_sqlite.store.wal import Salts

#: Before a file has a WAL.
_NO_SALTS: Final = Salts(0, 0)


class Commit(NamedTuple):
    """So many frames of a run of the WAL are committed, at the latest at this time."""

    salts: Salts
    frames: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Position:
    """How far a WAL is shipped."""

    salts: Salts
    frames: int
    #: Of the last frame, or of the WAL's header.
    checksum: tuple[int, int]

    @classmethod
    def at_start(cls, header: wal.Header | None) -> Self:
        """Nothing is shipped of a WAL; without a header, of a file that has none yet."""
        return cls(_NO_SALTS, 0, (0, 0)) if header is None else cls(header.salts, 0, header.checksum)

    def is_before(self, salts: Salts) -> bool:
        """Whether a run of the WAL is the one after this one, or the first at all."""
        return self.salts == _NO_SALTS or salts.run == (self.salts.run + 1) & 0xFFFFFFFF

    def is_in(self, fd: int | None, header: wal.Header | None) -> bool:
        """Whether a WAL goes on where it was shipped up to."""
        if fd is None or header is None:
            return self.salts == _NO_SALTS
        if header.salts != self.salts:
            return self.is_before(header.salts)
        if not self.frames:
            return True
        raw = wal.read_frames(fd, header, self.frames - 1, 1)
        return any(frame.checksum == self.checksum for frame, _ in wal.frames(raw, header))


class Origin(StrEnum):
    """What a generation begins with."""

    #: Whatever its file holds: a copy of it has to be the base.
    FILE = "file"
    #: What a restore made, which was put into the archive as its base before, if that took it.
    RESTORE = "restore"
    #: The pages that the generation before ended with, at another shard.
    MOVE = "move"


class Chain:
    """The history of one generation of one database, as it goes on."""

    def __init__(self, database_id: str, number: int, path: Path, origin: Origin, before_ms: int) -> None:
        self.database_id = database_id
        self.generation = number
        self.path = path
        self.origin = origin
        #: When the generation before ended, where this one came from another shard.
        self.before_ms = before_ms
        #: Held by whoever reads the WAL to ship it, or makes a checkpoint.
        self.lock = threading.Lock()
        #: Held by whoever takes a base: there is one file to copy into.
        self.base_lock = threading.Lock()
        #: What is not shipped, in order. The writer appends.
        self.commits: deque[Commit] = deque()
        self.latest: Commit | None = None
        #: The latest one when the WAL was copied back last, as far as readers let it be.
        self.copied: Commit | None = None
        #: Jobs of the writer that were begun and ended; they run one at a time.
        self.begun = self.ended = 0
        #: No commit has an earlier time from now on.
        self.floor_ms = 0
        #: How far the WAL was shipped when the history was marked as ended.
        self.end: Position | None = None
        #: None until the archive was asked where the process before ended.
        self.position: Position | None = None
        #: The next segment's number, and the group it goes to.
        self.seq = self.group = 0
        self.base_wanted = False
        #: What a rebuild would read since the last base.
        self.segments = self.segment_bytes = 0
        self.dropped = False

    @property
    def wal(self) -> Path:
        """The WAL's file."""
        return self.path.with_name(f"{self.path.name}-wal")

    @property
    def wal_bytes(self) -> int:
        """Pages of the WAL up to the latest commit. The file is larger where a run before was longer."""
        return 0 if self.latest is None else self.latest.frames * PAGE_BYTES

    @property
    def grown_bytes(self) -> int:
        """Those that came since the WAL was copied back last."""
        latest, copied = self.latest, self.copied
        if latest is None or copied is None or copied.salts != latest.salts:
            return self.wal_bytes
        return (latest.frames - copied.frames) * PAGE_BYTES

    @property
    def gap(self) -> Path:
        """A file that says, durably, that frames left the WAL before they were shipped."""
        return self.path.with_name(f"{self.path.name}-gap")
