"""A database as it was at a moment: a base of its history, and what commits changed after it, put on it in order."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from tovuk_sqlite.store import copies, segments
from tovuk_sqlite.store.archive import Archive, ObjectMissing
from tovuk_sqlite.store.segments import BaseName, Damaged, Group, Segment, SegmentName

#: A moment after every commit.
EVER: Final = 1 << 62
#: Segments that are fetched ahead.
_AHEAD: Final = 8


class NoHistory(Exception):
    """The moment lies before everything that is kept."""


def generations(archive: Archive, database_id: str) -> list[int]:
    """Those of which something is kept, in order."""
    return sorted(int(name) for name in archive.names(segments.folder(database_id)) if name.isdecimal())


def groups(archive: Archive, database_id: str, generation: int) -> list[Group]:
    """All that is kept of a generation."""
    place = segments.folder(database_id, generation)
    names = [name for name in archive.names(place) if name.isdecimal()]
    return [segments.group(int(name), archive.names(f"{place}/{name}")) for name in names]


def last_ms(kept: Sequence[Group]) -> int:
    """The time of a generation's last commit that is kept, or of its end."""
    return max((name.last_ms for group in kept for name in group.segments), default=0)


def rebuild(archive: Archive, database_id: str, generation: int, at_ms: int, last_seq: int, path: Path) -> None:
    """Make a new file of what the generation held at a moment; all that was committed until then is in the archive.

    `last_seq` is the number of a segment that must be there; 0 where that is not known. Raises NoHistory, and Damaged
    where something is missing or is not what was put there.
    """
    kept = groups(archive, database_id, generation)
    while True:
        try:
            _rebuild(archive, (database_id, generation), kept, at_ms, last_seq, path)
            return
        except ObjectMissing as error:
            # Segments may have been joined meanwhile.
            listed, kept = kept, groups(archive, database_id, generation)
            if kept == listed:
                raise Damaged("an object is missing") from error
            path.unlink(missing_ok=True)


def _rebuild(
    archive: Archive, whose: tuple[str, int], kept: Sequence[Group], at_ms: int, last_seq: int, path: Path
) -> None:
    begun, base = _base(kept, at_ms)
    needed = _needed(kept, begun, at_ms, last_seq)
    fetch_base(archive, whose, begun, base, path)
    last: list[Segment] = []
    with path.open("r+b") as file:
        for one in read(archive, whose, needed, begun):
            if one.header.seq < needed[-1][1].seq:
                apply(file.fileno(), one)
            else:
                last.append(one)
        for one in _until(last, at_ms):
            apply(file.fileno(), one)
        os.fsync(file.fileno())


def is_whole(kept: Sequence[Group], ended_ms: int) -> bool:
    """Whether all is listed that the end of a generation is rebuilt from."""
    try:
        begun, _ = _base(kept, ended_ms)
        _needed(kept, begun, ended_ms, 0)
    except (NoHistory, Damaged):
        return False
    return True


def fetch_base(archive: Archive, whose: tuple[str, int], group: int, base: BaseName, path: Path) -> None:
    """Write a group's base into a new file. Raises Damaged, ObjectMissing, NoHistory."""
    if base.leans:
        rebuild(archive, whose[0], whose[1] - 1, base.from_ms, 0, path)
        return
    archive.get_file(f"{segments.folder(*whose, group)}/{segments.base_name(base)}", path)
    if path.stat().st_size != base.size_bytes or copies.sha256(path) != base.sha256:
        raise Damaged(f"the base at segment {group} does not fit its checksum")


def read(
    archive: Archive, whose: tuple[str, int], chain: Sequence[tuple[int, SegmentName]], seq: int
) -> Iterator[Segment]:
    """The segments of a chain, which begins with number `seq`, in order; of each, its group and name are given.

    Raises Damaged, ObjectMissing at the first that is not there or not whole.
    """
    names = [f"{segments.folder(*whose, number)}/{segments.segment_name(name)}" for number, name in chain]
    for raw, (_, name) in zip(_fetched(archive, names), chain, strict=True):
        if name.seq == seq:
            try:
                for one in segments.decode(raw):
                    if (one.header.database_id, one.header.generation, one.header.seq) != (*whose, seq):
                        raise Damaged("it lies in another's place")
                    yield one
                    seq += 1
            except Damaged as error:
                raise Damaged(f"segment {seq}: {error}") from error
        if name.last_seq != seq - 1:
            raise Damaged(f"segment {seq} is missing")


def _base(kept: Sequence[Group], at_ms: int) -> tuple[int, BaseName]:
    found = [(group.number, base) for group in kept for base in group.bases if base.from_ms <= at_ms]
    if not found:
        raise NoHistory
    return found[-1]


def _needed(kept: Sequence[Group], begun: int, at_ms: int, last_seq: int) -> list[tuple[int, SegmentName]]:
    """The segments from a group's first to the last that has a commit until the moment."""
    every = [(number, name) for number, name in owned(kept) if name.seq >= begun]
    last = max((at for at, (_, name) in enumerate(every) if 0 < name.first_ms <= at_ms), default=0)
    if not every or every[-1][1].last_seq < last_seq:
        raise Damaged(f"segment {last_seq} is missing")
    # A later commit in it, or in one after it, shows that no other came between.
    later = (at for at, (_, name) in enumerate(every[last + 1 :], last + 2) if name.first_ms)
    shown = last + 1 if every[last][1].last_ms > at_ms else next(later, len(every))
    seq = begun
    for _, name in every[:shown]:
        if name.seq != seq:
            raise Damaged(f"segment {seq} is missing")
        seq = name.last_seq + 1
    return every[: last + 1]


def owned(kept: Sequence[Group]) -> list[tuple[int, SegmentName]]:
    """The groups' numbers and segments in order, without what was joined, and what an owner shipped after another
    one had taken over.

    Of several with one number, all but one were put without an answer, and put again with more.
    """
    found = [(group.number, name) for group in kept for name in group.segments]
    chosen: list[tuple[int, SegmentName]] = []
    for number, name in sorted(found, key=_choice):
        if not chosen or (name.seq > chosen[-1][1].last_seq and name.fence >= chosen[-1][1].fence):
            chosen.append((number, name))
    return chosen


def _choice(one: tuple[int, SegmentName]) -> tuple[int, ...]:
    name = one[1]
    return name.seq, -name.fence, -name.last_seq, not name.first_ms, -name.last_ms


def _fetched(archive: Archive, names: Sequence[str]) -> Iterator[bytes]:
    with ThreadPoolExecutor(_AHEAD, thread_name_prefix="history") as pool:
        for start in range(0, len(names), _AHEAD):
            yield from pool.map(archive.get, names[start : start + _AHEAD])


def _until(found: Sequence[Segment], at_ms: int) -> list[Segment]:
    """The segments up to the last commit until the moment; what follows may be the beginning of a later commit."""
    ends = [
        (at, count)
        for at, one in enumerate(found)
        for count, piece in enumerate(one.header.slices, 1)
        if 0 < piece.at_ms <= at_ms
    ]
    if not ends:
        return []
    at, count = ends[-1]
    return [*found[:at], beginning(found[at], count)]


def beginning(segment: Segment, count: int) -> Segment:
    """A segment without what follows so many of its slices."""
    header = msgspec.structs.replace(segment.header, slices=segment.header.slices[:count])
    return segment._replace(header=header)


def apply(fd: int, segment: Segment) -> None:
    """Put the pages of a segment in their places."""
    size, at = segment.header.page_bytes, 0
    images = segment.images()
    for piece in segment.header.slices:
        for page in piece.pages:
            os.pwrite(fd, images[at : at + size], (page - 1) * size)
            at += size
        if piece.pages_after:
            os.ftruncate(fd, piece.pages_after * size)
