"""A database as it was at a moment: a base of its history, and what commits changed after it, put on it in order."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tovuk_sqlite.store import copies, segments
from tovuk_sqlite.store.archive import Archive, ObjectMissing
from tovuk_sqlite.store.segments import BaseName, Damaged, Group, SegmentName, Slice

#: Segments that are fetched ahead.
_AHEAD = 8


class NoHistory(Exception):
    """The moment lies before everything that is kept."""


def groups(archive: Archive, database_id: str, generation: int) -> list[Group]:
    """All that is kept of a generation."""
    place = segments.folder(database_id, generation)
    return [segments.group(int(name), archive.names(f"{place}/{name}")) for name in archive.names(place)]


def rebuild(archive: Archive, database_id: str, generation: int, at_ms: int, last_seq: int, path: Path) -> None:
    """Make a new file of what the generation held at a moment; all that was committed until then is in the archive.

    `last_seq` is the number of a segment that must be there; 0 where that is not known. Raises NoHistory, and Damaged
    where something is missing or is not what was put there.
    """
    kept = groups(archive, database_id, generation)
    begun, base = _base(kept, at_ms)
    needed = _needed(kept, begun, at_ms, last_seq)
    place = f"{segments.folder(database_id, generation, begun)}/{segments.base_name(base)}"
    try:
        archive.get_file(place, path)
    except ObjectMissing as error:
        raise Damaged("a base is missing") from error
    if path.stat().st_size != base.size_bytes or copies.sha256(path) != base.sha256:
        raise Damaged("a base does not fit its checksum")
    names = [
        f"{segments.folder(database_id, generation, number)}/{segments.segment_name(name)}" for number, name in needed
    ]
    with path.open("r+b") as file:
        for raw, (_, name) in zip(_fetched(archive, names), needed, strict=True):
            header, images = segments.decode(raw)
            if (header.database_id, header.generation, header.seq) != (database_id, generation, name.seq):
                raise Damaged("a segment lies in another's place")
            slices = header.slices if name is not needed[-1][1] else _until(header.slices, at_ms)
            _apply(file.fileno(), header.page_bytes, slices, images)
        os.fsync(file.fileno())


def _base(kept: Sequence[Group], at_ms: int) -> tuple[int, BaseName]:
    found = [(group.number, base) for group in kept for base in group.bases if base.from_ms <= at_ms]
    if not found:
        raise NoHistory
    return found[-1]


def _needed(kept: Sequence[Group], begun: int, at_ms: int, last_seq: int) -> list[tuple[int, SegmentName]]:
    """The segments from a group's first to the last that has a commit until the moment."""
    every = _owners([(group.number, name) for group in kept for name in group.segments if name.seq >= begun])
    last = max((at for at, (_, name) in enumerate(every) if 0 < name.first_ms <= at_ms), default=0)
    if not every or every[-1][1].seq < last_seq:
        raise Damaged(f"segment {last_seq} is missing")
    # A later commit in it, or the one after it, shows that no other came between.
    shown = last + 1 if every[last][1].last_ms > at_ms else last + 2
    for at, (_, name) in enumerate(every[:shown]):
        if name.seq != begun + at:
            raise Damaged(f"segment {begun + at} is missing")
    return every[: last + 1]


def _owners(found: list[tuple[int, SegmentName]]) -> list[tuple[int, SegmentName]]:
    """In order, without what an owner shipped after another one had taken over."""
    kept: list[tuple[int, SegmentName]] = []
    for group, name in sorted(found, key=lambda one: (one[1].seq, -one[1].fence)):
        if not kept or (name.seq > kept[-1][1].seq and name.fence >= kept[-1][1].fence):
            kept.append((group, name))
    return kept


def _fetched(archive: Archive, names: Sequence[str]) -> Iterator[bytes]:
    with ThreadPoolExecutor(_AHEAD, thread_name_prefix="history") as pool:
        for start in range(0, len(names), _AHEAD):
            try:
                yield from pool.map(archive.get, names[start : start + _AHEAD])
            except ObjectMissing as error:
                raise Damaged("a segment is missing") from error


def _until(slices: tuple[Slice, ...], at_ms: int) -> tuple[Slice, ...]:
    """The slices up to the last commit until the moment; what follows may be the beginning of a later commit."""
    return slices[: max((n for n, piece in enumerate(slices, 1) if 0 < piece.at_ms <= at_ms), default=0)]


def _apply(fd: int, page_bytes: int, slices: tuple[Slice, ...], images: bytes) -> None:
    at = 0
    view = memoryview(images)
    for piece in slices:
        for page in piece.pages:
            os.pwrite(fd, view[at : at + page_bytes], (page - 1) * page_bytes)
            at += page_bytes
        if piece.pages_after:
            os.ftruncate(fd, piece.pages_after * page_bytes)
