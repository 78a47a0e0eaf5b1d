"""The history of a database in the archive: bases, which are copies, and segments, which are what commits changed.

A segment holds slices: the pages as they were after some commit, and the time of that commit. Segments of a generation
are numbered without gaps; a number that is missing was lost, or what it would hold was. They lie in groups. A group is
named by the number of its first segment, and its base has everything of the segments before.

An object holds one segment, or, once nothing is added to its group any more, many one after the other.
"""

import hashlib
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from tovuk_sqlite.store.wal import Salts

_MAGIC: Final = b"tovuk segment 1\n"
_LENGTH_BYTES: Final = 4
_DIGEST_BYTES: Final = 32
_BASE: Final = "base"
_BASE_NAME: Final = re.compile(rf"{_BASE}-(\d+)-(\d+)-([0-9a-f]{{64}}|)")
_SEGMENT_NAME: Final = re.compile(r"(\d+)-(\d+)-(\d+)-(\d+)-(\d+)")


class Slice(msgspec.Struct, frozen=True, array_like=True):
    """Pages that changed up to a commit. `at_ms` and `pages_after` are 0 where that commit is in a later slice."""

    at_ms: int
    #: Pages of the database after the commit.
    pages_after: int
    #: Numbers of the pages, in the order of their images.
    pages: tuple[int, ...]


class SegmentHeader(msgspec.Struct, frozen=True):
    """What a segment says of itself."""

    database_id: str
    generation: int
    seq: int
    #: Number of the owner that shipped it; an owner of a lower number had lost the database to it.
    fence: int
    page_bytes: int
    salts: Salts
    #: Frames of this run of the WAL that are shipped with this segment and those before, and the checksum of the last.
    frames: int
    checksum: tuple[int, int]
    slices: tuple[Slice, ...]


#: Made here, on one thread: msgspec crashes where several threads use a type for the first time at once.
_headers: Final = msgspec.json.Decoder(SegmentHeader)


class Damaged(Exception):
    """An object of the history is not what was put there."""


class Segment(NamedTuple):
    """A segment as it lies in its object."""

    header: SegmentHeader
    squeezed: bytes

    def images(self) -> memoryview:
        """The pages of all its slices, in order."""
        return memoryview(zlib.decompress(self.squeezed))


def encode(header: SegmentHeader, images: Sequence[bytes | memoryview]) -> bytes:
    """An object of one segment; `images` are the pages of all its slices, in order."""
    head = msgspec.json.encode(header)
    squeezer = zlib.compressobj(1)
    body = b"".join([*(squeezer.compress(image) for image in images), squeezer.flush()])
    lengths = len(head).to_bytes(_LENGTH_BYTES) + len(body).to_bytes(_LENGTH_BYTES)
    whole = b"".join((_MAGIC, lengths, head, body))
    return whole + hashlib.sha256(whole).digest()


def decode(raw: bytes) -> Iterator[Segment]:
    """The segments of an object, each when it was found whole. Raises Damaged."""
    start = 0
    while start < len(raw) or not raw:
        head = start + len(_MAGIC) + 2 * _LENGTH_BYTES
        body = head + int.from_bytes(raw[head - 2 * _LENGTH_BYTES : head - _LENGTH_BYTES])
        end = body + int.from_bytes(raw[head - _LENGTH_BYTES : head])
        digest = raw[end : end + _DIGEST_BYTES]
        if not raw.startswith(_MAGIC, start) or hashlib.sha256(raw[start:end]).digest() != digest:
            raise Damaged("it does not fit its checksum")
        try:
            header = _headers.decode(raw[head:body])
        except msgspec.MsgspecError as error:
            raise Damaged("it is of another version") from error
        yield Segment(header, raw[body:end])
        start = end + _DIGEST_BYTES


class SegmentName(NamedTuple):
    """An object's segments as a listing shows them: numbers, owner, and times of the first and last commit.

    The times are 0 where there is no commit; but one that marks the generation's end has its time as the last. The
    last mark holds.
    """

    seq: int
    last_seq: int
    fence: int
    first_ms: int
    last_ms: int


class BaseName(NamedTuple):
    """A group's base as a listing shows it. Every commit it may hold happened before `from_ms`.

    Without a checksum it has no bytes, and stands for what the generation before ended with.
    """

    from_ms: int
    size_bytes: int
    sha256: str

    @property
    def leans(self) -> bool:
        """Whether it stands for the end of the generation before."""
        return not self.sha256


def end_before(ended_ms: int) -> BaseName:
    """The base of a generation whose first pages are the last ones of the generation before, which ended then."""
    return BaseName(ended_ms, 0, "")


@dataclass(frozen=True, slots=True)
class Group:
    """What lies in one group."""

    number: int
    bases: tuple[BaseName, ...]
    segments: tuple[SegmentName, ...]
    #: Names that the history gives to nothing.
    strangers: tuple[str, ...] = ()


def folder(database_id: str, generation: int | None = None, group: int | None = None) -> str:
    """Where the history lies, of all generations, of one, or of one of its groups."""
    place = f"{database_id}/history"
    if generation is not None:
        place += f"/{generation:06}"
    return place if group is None else f"{place}/{group:012}"


def segment_name(name: SegmentName) -> str:
    """Its last part."""
    return f"{name.seq:012}-{name.last_seq:012}-{name.fence:010}-{name.first_ms:013}-{name.last_ms:013}"


def base_name(name: BaseName) -> str:
    """Its last part."""
    return f"{_BASE}-{name.from_ms:013}-{name.size_bytes}-{name.sha256}"


def group(number: int, names: Sequence[str]) -> Group:
    """What the names in a group's folder say."""
    bases, segments, strangers = [], [], []
    for name in names:
        if found := _SEGMENT_NAME.fullmatch(name):
            segments.append(SegmentName(*map(int, found.groups())))
        elif found := _BASE_NAME.fullmatch(name):
            bases.append(BaseName(int(found[1]), int(found[2]), found[3]))
        else:
            strangers.append(name)
    return Group(number, tuple(sorted(bases)), tuple(sorted(segments)), tuple(strangers))
