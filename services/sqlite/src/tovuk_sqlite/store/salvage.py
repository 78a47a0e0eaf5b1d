"""What can be had of a generation whose history is damaged: states of which every commit up to a moment is known."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tovuk_sqlite.store import rebuild
from tovuk_sqlite.store.archive import Archive, ObjectMissing
from tovuk_sqlite.store.segments import BaseName, Damaged, Group, SegmentName


class _End(NamedTuple):
    """The last commit of a chain before what is damaged; zeros where there is none."""

    seq: int
    #: Of that segment, up to the commit.
    slices: int
    at_ms: int
    #: What is damaged after it; empty where nothing is.
    problem: str


@dataclass(frozen=True, slots=True)
class Salvage:
    """A base, and what is put on it."""

    #: Everything that was committed until then is in it.
    at_ms: int
    #: Why it is not all; empty where it is.
    problem: str
    _archive: Archive
    _whose: tuple[str, int]
    _group: int
    _base: BaseName
    _chain: Sequence[tuple[int, SegmentName]]
    _end: _End

    def make(self, path: Path) -> None:
        """Write it into a new file. Raises Damaged, ObjectMissing, NoHistory."""
        rebuild.fetch_base(self._archive, self._whose, self._group, self._base, path)
        if not self._end.slices:
            return
        with path.open("r+b") as file:
            for one in rebuild.read(self._archive, self._whose, self._chain, self._group):
                if one.header.seq == self._end.seq:
                    rebuild.apply(file.fileno(), rebuild.beginning(one, self._end.slices))
                    break
                rebuild.apply(file.fileno(), one)
            os.fsync(file.fileno())


def salvages(archive: Archive, whose: tuple[str, int], kept: Sequence[Group]) -> Iterator[Salvage]:
    """What can be had: of each base what follows it, the newest base first; then bases alone, which are older.

    Nobody else may change the history meanwhile.
    """
    owned = rebuild.owned(kept)
    older = []
    for group in reversed(kept):
        if not group.bases:
            continue
        chain = [(number, name) for number, name in owned if name.seq >= group.number]
        end = _end(archive, whose, chain, group.number)
        first_ms = next((name.first_ms for _, name in chain if name.first_ms), 0)
        for base in reversed(group.bases):
            made = (archive, whose, group.number, base, chain)
            until_ms = min(base.from_ms, first_ms - 1) if first_ms else base.from_ms
            problem = end.problem or f"what follows the base at segment {group.number} is left out"
            alone = Salvage(until_ms, problem, *made, _End(0, 0, 0, problem))
            # A base may hold commits up to its time: with only some of those put on it, it would be of two moments.
            if end.problem and end.at_ms <= base.from_ms:
                yield alone
            else:
                yield Salvage(max(end.at_ms, base.from_ms), end.problem, *made, end)
                older.append(alone)
    yield from older


def _end(archive: Archive, whose: tuple[str, int], chain: Sequence[tuple[int, SegmentName]], seq: int) -> _End:
    end = _End(0, 0, 0, "" if chain else f"segment {seq} is missing")
    try:
        for one in rebuild.read(archive, whose, chain, seq):
            for count, piece in enumerate(one.header.slices, 1):
                if piece.at_ms:
                    end = _End(one.header.seq, count, piece.at_ms, "")
    except Damaged as error:
        end = end._replace(problem=str(error))
    except ObjectMissing:
        end = end._replace(problem="an object is missing")
    return end
