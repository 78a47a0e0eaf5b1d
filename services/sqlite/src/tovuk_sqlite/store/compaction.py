"""Compaction of the history: segments of a group that is complete are put together into few objects.

A listing says all: objects of several segments are done with, runs of single ones are not. The new object is there
before the first of its parts goes, so whoever lists finds every segment, at least once.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from tovuk_sqlite.limits import COMPACTED_BYTES_MAX
from tovuk_sqlite.store import rebuild, segments
from tovuk_sqlite.store.archive import Archive
from tovuk_sqlite.store.segments import SegmentName


def compact(
    archive: Archive, whose: tuple[str, int], until_ms: int, check: Callable[[], object], *, ended: bool
) -> None:
    """Compact a generation's groups whose last commit was before a moment; the last group only if `ended`.

    `check` raises where the generation is not ours to change. Raises segments.Damaged, ObjectMissing, and what `check`
    and the archive raise.
    """
    kept = rebuild.groups(archive, *whose)
    owned = rebuild.owned(kept)
    for group in kept if ended else kept[:-1]:
        if max((name.last_ms for name in group.segments), default=0) < until_ms:
            place = segments.folder(*whose, group.number)
            own = [name for number, name in owned if number == group.number]
            # What a process compacted that did not live to remove it, and what one shipped that had been replaced.
            _remove(archive, place, set(group.segments).difference(own), check)
            for run in _runs(own):
                _join(archive, place, run, check)


def _runs(own: Sequence[SegmentName]) -> Iterator[list[SegmentName]]:
    """Single segments that follow one another, of one owner; two at least."""
    run: list[SegmentName] = []
    for name in own:
        if run and (name.seq, name.fence) != (run[-1].seq + 1, run[-1].fence):
            if len(run) > 1:
                yield run
            run = []
        if name.seq == name.last_seq:
            run.append(name)
    if len(run) > 1:
        yield run


def _join(archive: Archive, place: str, run: Iterable[SegmentName], check: Callable[[], object]) -> None:
    parts: list[SegmentName] = []
    raws: list[bytes] = []
    for name in run:
        raw = archive.get(f"{place}/{segments.segment_name(name)}")
        if sum(map(len, raws)) + len(raw) > COMPACTED_BYTES_MAX:
            _replace(archive, place, parts, raws, check)
            parts, raws = [], []
        parts.append(name)
        raws.append(raw)
    _replace(archive, place, parts, raws, check)


def _replace(
    archive: Archive, place: str, parts: list[SegmentName], raws: list[bytes], check: Callable[[], object]
) -> None:
    if len(parts) < 2:
        return
    whole = b"".join(raws)
    # What is damaged stays as it is.
    list(segments.decode(whole))
    firsts = [name.first_ms for name in parts if name.first_ms]
    name = SegmentName(
        parts[0].seq,
        parts[-1].last_seq,
        parts[0].fence,
        firsts[0] if firsts else 0,
        max(name.last_ms for name in parts),
    )
    check()
    archive.put(f"{place}/{segments.segment_name(name)}", whole)
    _remove(archive, place, parts, check)


def _remove(archive: Archive, place: str, names: Iterable[SegmentName], check: Callable[[], object]) -> None:
    for name in names:
        check()
        archive.remove(f"{place}/{segments.segment_name(name)}")
