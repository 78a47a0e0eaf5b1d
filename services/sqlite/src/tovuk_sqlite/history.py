"""The history of databases: what commits change is shipped to the archive within a second, before it leaves the WAL.

This process has the only writer of each file and makes its only checkpoints, so it reads the WAL beside SQLite. After
each job of the writer it notes how far the WAL goes and when that was; a shipper puts what is new into the archive;
a checkpoint is made only when nothing is left to ship. Where the archive is away for so long that a WAL reaches its
bound, queries go on, and the history has a gap until the next base.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tovuk_kit.clock import Clock
from tovuk_kit.errors import StorageFull, StoreUnavailable, TovukError
from tovuk_kit.files import sync_folder
from tovuk_sqlite.chain import Chain, Commit, Origin, Position
from tovuk_sqlite.limits import (
    COMPACT_AFTER_MS,
    HISTORY_SLICE_MS,
    HISTORY_WAL_BYTES_MAX,
    QUERY_SECONDS_MAX,
    SEGMENT_ENTRIES_MAX,
    SEGMENTS_BYTES_MIN,
    SEGMENTS_ENTRIES_MAX,
)
from tovuk_sqlite.store import compaction, copies, generation, rebuild, segments, wal
from tovuk_sqlite.store.archive import Archive, ObjectMissing
from tovuk_sqlite.store.base import Engine, Writer
from tovuk_sqlite.store.segments import BaseName, SegmentHeader, SegmentName, Slice
from tovuk_sqlite.store.wal import Salts

#: How long a checkpoint waits for a shipment under way; the next one comes soon.
_CHECKPOINT_WAIT_S: Final = 0.5
#: How far a file's time may lag behind the clock: a tick of the kernel's.
_FILE_TIME_MS: Final = 10
_JOB_POLL_S: Final = 0.002

_log = logging.getLogger(__name__)


class History:
    """The histories of all databases of one data folder. Every method blocks, and may be called from any thread."""

    def __init__(
        self, engine: Engine, archive: Archive, data_dir: Path, clock: Clock, fencing: Callable[[], int]
    ) -> None:
        """`fencing` gives the number of the owner that this process is; it raises where it is none any more."""
        self._engine = engine
        self._archive = archive
        self._data_dir = data_dir
        self._clock = clock
        self._fencing = fencing
        self._chains: dict[tuple[str, int], Chain] = {}
        self._chains_lock = threading.Lock()
        self._due: set[Chain] = set()
        #: The archive failed when it was asked last.
        self._away = False

    # What the writers do.

    def chain(self, database_id: str, number: int, origin: Origin = Origin.FILE, before_ms: int = 0) -> Chain:
        """The history of a generation. A new one has to be shipped once to find out where it stands.

        `origin`, and for a move when the generation before ended, count when the chain is asked for first.
        """
        with self._chains_lock:
            chain = self._chains.get((database_id, number))
            if chain is None:
                path = generation.numbered(self._data_dir, database_id, number)
                chain = self._chains[database_id, number] = Chain(database_id, number, path, origin, before_ms)
                self._due.add(chain)
            return chain

    @contextmanager
    def writing(self, chain: Chain, writer: Writer) -> Iterator[None]:
        """Around a job of the writer, on its thread."""
        chain.begun += 1
        try:
            yield
        finally:
            self._note(chain, writer)
            chain.ended += 1

    def catch_up(self, chain: Chain) -> None:
        """Ship what is left, so that a checkpoint finds little to ship and holds the writer shortly."""
        if not self._away:
            # Where it fails, `checkpoint` knows that the archive is away.
            with suppress(TovukError):
                self.ship(chain)

    def checkpoint(self, chain: Chain, writer: Writer) -> None:
        """Ship what is left, and where that is done copy the WAL back. On the writer's thread, between its jobs."""
        full = chain.wal_bytes >= HISTORY_WAL_BYTES_MAX
        if self._away and not full:
            # Nobody waits with the writer in hand for an archive that does not answer.
            return
        if not chain.lock.acquire(timeout=_CHECKPOINT_WAIT_S):
            return
        try:
            if not self._shipped_all(chain):
                if not full:
                    return
                self._leave_gap(chain)
            writer.checkpoint()
            chain.copied = chain.latest
        finally:
            chain.lock.release()

    # What ships.

    def due(self) -> list[Chain]:
        """Chains that have something to ship, or need a base."""
        return list(self._due)

    def ship(self, chain: Chain) -> None:
        """Put what was committed before the call into the archive. Raises StoreUnavailable, StorageFull, …"""
        self._due.discard(chain)
        try:
            with chain.lock:
                self._ship(chain)
        except BaseException:
            self._away = True
            self._due.add(chain)
            raise
        self._away = False

    def take_base(self, chain: Chain) -> None:
        """Copy the database as a new base, where one is wanted. Raises as `ship` does."""
        try:
            with chain.base_lock:
                self._take_base(chain)
        except BaseException:
            self._due.add(chain)
            raise

    def prepare(self, database_id: str, number: int, path: Path) -> None:
        """Put the base of a generation that is about to take another's place into the archive, if that takes it.

        The generation counts as begun with its first segment, which is put when it has taken that place. Raises
        StoreUnavailable, ShardNotOwned.
        """
        self.unprepare(database_id, number)
        try:
            with _faults():
                base = BaseName(self._clock.wall_ms(), path.stat().st_size, copies.sha256(path))
                self._archive.put_file(f"{segments.folder(database_id, number, 0)}/{segments.base_name(base)}", path)
        except (StoreUnavailable, StorageFull):
            # Nobody should have to wait for room in the archive to be put back.
            _log.exception("the base of generation %d of %s follows", number, database_id)

    def unprepare(self, database_id: str, number: int) -> None:
        """Remove the base of a generation that has not begun. Raises StoreUnavailable, ShardNotOwned."""
        self._fencing()
        for base in self._prepared(database_id, number):
            self._archive.remove(f"{segments.folder(database_id, number, 0)}/{segments.base_name(base)}")

    def finish(self, chain: Chain, ended_ms: int) -> int:
        """Ship the rest of a generation that was replaced, or is about to be, and mark when; not before its commits.

        Raises as `ship` does.
        """
        with chain.lock:
            self._ship(chain)
            ended_ms = max(ended_ms, chain.floor_ms)
            if chain.position is not None:
                self._put(chain, chain.position, 0, (), [], ended_ms=ended_ms)
                # What comes all the same comes after the end.
                chain.floor_ms = ended_ms + 1
            chain.end = chain.position
            return ended_ms

    def is_at_end(self, chain: Chain) -> bool:
        """Whether nothing was committed since `finish`."""
        if chain.end is None or chain.begun != chain.ended:
            return False
        latest = chain.latest
        return latest is None or (latest.salts, latest.frames) == (chain.end.salts, chain.end.frames)

    def drop(self, database_id: str, number: int | None = None) -> None:
        """A generation, or the database, has no history any more; nothing is shipped once this returns."""
        with self._chains_lock:
            keys = [key for key in self._chains if key[0] == database_id and number in (None, key[1])]
            dropped = [self._chains.pop(key) for key in keys]
        for chain in dropped:
            with chain.base_lock, chain.lock:
                chain.dropped = True
            self._due.discard(chain)

    # What looks back.

    def rebuild(self, database_id: str, number: int, at_ms: int, path: Path) -> None:
        """Make a new file of what a generation held at a moment that is over.

        Raises rebuild.NoHistory, segments.Damaged, StoreUnavailable, StorageFull.
        """
        with self._chains_lock:
            chain = self._chains.get((database_id, number))
        last_seq = 0
        if chain is not None:
            self.ship(chain)
            last_seq = chain.seq - 1
        with copies.faults():
            rebuild.rebuild(self._archive, database_id, number, at_ms, last_seq, path)

    def compact(self, database_id: str, current: int) -> None:
        """Put the segments together that nobody ships after any more: thousands of objects become a few.

        `current` is the generation that goes on.
        """
        until_ms = self._clock.wall_ms() - COMPACT_AFTER_MS
        for number in rebuild.generations(self._archive, database_id):
            try:
                with _faults():
                    compaction.compact(
                        self._archive, (database_id, number), until_ms, self._fencing, ended=number < current
                    )
            except segments.Damaged:
                _log.exception("the history of %s is damaged", database_id)

    # Inside, with the chain's lock but for _note.

    def _shipped_all(self, chain: Chain) -> bool:
        if self._away:
            return False
        try:
            self._ship(chain)
        except TovukError:
            self._away = True
            return False
        return True

    def _note(self, chain: Chain, writer: Writer) -> None:
        frames, latest = writer.wal_frames, chain.latest
        if not frames:
            return
        salts = self._salts(chain)
        if salts is None or (latest is not None and (latest.salts, latest.frames) == (salts, frames)):
            return
        at_ms = self._clock.wall_ms()
        chain.latest = Commit(salts, frames, at_ms)
        chain.commits.append(chain.latest)
        self._due.add(chain)

    @staticmethod
    def _salts(chain: Chain) -> Salts | None:
        try:
            fd = os.open(chain.wal, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            return wal.read_salts(fd)
        finally:
            os.close(fd)

    def _ship(self, chain: Chain) -> None:
        if chain.dropped:
            return
        with _faults():
            # Nothing else than the WAL itself may be opened beside SQLite: closing any other of its files would drop
            # the process's locks on it.
            try:
                fd = os.open(chain.wal, os.O_RDONLY)
            except FileNotFoundError:
                if chain.position is None:
                    self._resume(chain, None, None)
                return
            try:
                header = wal.read_header(fd)
                if chain.position is None:
                    self._resume(chain, fd, header)
                # Not what the writer appends meanwhile: there would be no end to it, and a small segment a turn.
                latest = chain.commits[-1] if chain.commits else None
                while latest in chain.commits:
                    self._ship_run(chain, fd, chain.commits[0])
            finally:
                os.close(fd)
        if chain.segments > SEGMENTS_ENTRIES_MAX or chain.segment_bytes > max(
            SEGMENTS_BYTES_MIN, chain.path.stat().st_size
        ):
            chain.base_wanted = True

    def _ship_run(self, chain: Chain, fd: int, first: Commit) -> None:
        """Ship the next commits of one run of the WAL."""
        header = wal.read_header(fd)
        assert chain.position is not None
        before = chain.position
        if (
            header is None
            or first.salts != header.salts
            or not (before.salts == first.salts or before.is_before(first.salts))
        ):
            self._lose_track(chain, fd, header)
            return
        if first.salts != before.salts:
            # Checkpoints are made only when all is shipped, so nothing of the run before is missing.
            chain.position = Position.at_start(header)
        start = chain.position.frames
        commits = []
        floor_ms = chain.floor_ms
        # The writer appends meanwhile.
        for commit in list(chain.commits):
            if commit.salts == first.salts:
                # Whatever the machine's clock does, the history's goes forward.
                floor_ms = max(floor_ms, commit.at_ms)
                commits.append(commit._replace(at_ms=floor_ms))
        count = max(0, min(commits[-1].frames - start, SEGMENT_ENTRIES_MAX))
        raw = wal.read_frames(fd, header, start, count)
        found = [one for one in wal.frames(raw, header) if one[0].salts == first.salts]
        if len(found) < count:
            self._lose_track(chain, fd, header)
            return
        if count:
            slices, images = _slices(found, start, commits)
            checksum = found[-1][0].checksum
            self._put(chain, Position(first.salts, start + count, checksum), header.page_bytes, slices, images)
        end = start + count
        while chain.commits and chain.commits[0].salts == first.salts and chain.commits[0].frames <= end:
            chain.commits.popleft()

    def _lose_track(self, chain: Chain, fd: int, header: wal.Header | None) -> None:
        """The WAL is not the one whose commits were noted: somebody else had it."""
        _log.error("the WAL of %s is not as it was left; its history has a gap", chain.database_id)
        self._begin(chain, chain.seq + 1, fd, header)

    def _put(
        self,
        chain: Chain,
        position: Position,
        page_bytes: int,
        slices: tuple[Slice, ...],
        images: list[memoryview],
        *,
        ended_ms: int = 0,
    ) -> None:
        fence = self._fencing()
        header = SegmentHeader(
            database_id=chain.database_id,
            generation=chain.generation,
            seq=chain.seq,
            fence=fence,
            page_bytes=page_bytes,
            salts=position.salts,
            frames=position.frames,
            checksum=position.checksum,
            slices=slices,
        )
        times = [piece.at_ms for piece in slices if piece.at_ms] or [0, ended_ms]
        chain.floor_ms = max(chain.floor_ms, times[-1])
        name = segments.segment_name(SegmentName(chain.seq, chain.seq, fence, times[0], times[-1]))
        place = segments.folder(chain.database_id, chain.generation, chain.group)
        self._archive.put(f"{place}/{name}", segments.encode(header, images))
        chain.position = position
        chain.seq += 1
        chain.segments += 1
        chain.segment_bytes += len(images) * page_bytes

    def _begin(self, chain: Chain, seq: int, fd: int | None, header: wal.Header | None) -> None:
        """Begin a history, or go on after a gap, which a number left out marks."""
        position, latest = Position.at_start(header), chain.latest
        if fd is not None and header is not None and latest is not None and latest.salts == header.salts:
            raw = wal.read_frames(fd, header, latest.frames - 1, 1)
            for frame, _ in wal.frames(raw, header):
                position = Position(header.salts, latest.frames, frame.checksum)
        while chain.commits and (
            chain.commits[0].salts != position.salts or chain.commits[0].frames <= position.frames
        ):
            chain.commits.popleft()
        chain.seq = seq
        self._begin_group(chain, position)
        chain.base_wanted = True
        self._due.add(chain)

    def _begin_group(self, chain: Chain, position: Position) -> None:
        """From now on segments go to a new group. Its first one is empty: it says where the group begins."""
        chain.group = chain.seq
        chain.segments = chain.segment_bytes = 0
        self._put(chain, position, 0, (), [])

    def _take_base(self, chain: Chain) -> None:
        with chain.lock:
            if chain.dropped or chain.position is None or not chain.base_wanted:
                return
            if chain.segments > 1:
                self._begin_group(chain, chain.position)
            group, gap = chain.group, chain.gap.exists()
        part = chain.path.with_name(f"{chain.generation}.base.part")
        with _faults():
            generation.remove_file(part)
            self._engine.copy(chain.path, part)
            self._wait_for_job(chain)
            with chain.lock:
                # Every commit the copy may hold was noted before. They are in the archive before the copy is: where
                # this process is lost then, segments that end within the copy would be put on it.
                self._ship(chain)
            latest_ms = max([chain.floor_ms, *(commit.at_ms for commit in list(chain.commits))])
            name = BaseName(max(self._clock.wall_ms(), latest_ms), part.stat().st_size, copies.sha256(part))
            place = segments.folder(chain.database_id, chain.generation, group)
            with chain.lock:
                if chain.dropped:
                    return
            self._archive.put_file(f"{place}/{segments.base_name(name)}", part)
            generation.remove_file(part)
            with chain.lock:
                if chain.group == group:
                    chain.base_wanted = False
                    if gap:
                        chain.gap.unlink(missing_ok=True)

    def _resume(self, chain: Chain, fd: int | None, header: wal.Header | None) -> None:
        """Find out where the process before ended, and whether the WAL goes on from there."""
        last = self._last_segment(chain)
        if last is not None:
            position = Position(last.salts, last.frames, last.checksum)
        elif chain.seq:
            self._begin(chain, chain.seq + 1, fd, header)
            return
        else:
            chain.floor_ms = self._ended_ms(chain)
            if not self._has_base(chain):
                self._begin(chain, 0, fd, header)
                return
            position = Position.at_start(None)
            self._begin_group(chain, position)
        if chain.gap.exists() or not position.is_in(fd, header):
            self._begin(chain, chain.seq + 1, fd, header)
            return
        if header is not None and header.salts != position.salts:
            position = Position.at_start(header)
        chain.position = position
        if fd is None or header is None or chain.commits or chain.begun != chain.ended:
            return
        committed = wal.committed_frames(fd, header, position.frames, position.checksum)
        if committed > position.frames:
            # When they were committed nobody knows any more; not after the file was written last.
            at_ms = os.fstat(fd).st_mtime_ns // 1_000_000 + _FILE_TIME_MS
            chain.latest = Commit(header.salts, committed, at_ms)
            chain.commits.append(chain.latest)

    def _last_segment(self, chain: Chain) -> SegmentHeader | None:
        groups = rebuild.groups(self._archive, chain.database_id, chain.generation)
        for group in reversed(groups):
            if not group.segments:
                continue
            chain.group = group.number
            chain.segments = len(group.segments)
            chain.base_wanted = all(base.leans for base in group.bases)
            place = segments.folder(chain.database_id, chain.generation, group.number)
            last = group.segments[-1]
            chain.seq = last.last_seq + 1
            chain.floor_ms = rebuild.last_ms(groups)
            try:
                *_, found = segments.decode(self._archive.get(f"{place}/{segments.segment_name(last)}"))
                return found.header
            except segments.Damaged:
                _log.error("the last segment of the history of %s is damaged", chain.database_id)
        return None

    def _prepared(self, database_id: str, number: int) -> tuple[BaseName, ...]:
        return segments.group(0, self._archive.names(segments.folder(database_id, number, 0))).bases

    def _has_base(self, chain: Chain) -> bool:
        """Whether a generation that has no segment yet has a base all the same."""
        if chain.origin is Origin.RESTORE and self._prepared(chain.database_id, chain.generation):
            return True
        # A restore that failed may have left one.
        self.unprepare(chain.database_id, chain.generation)
        if chain.origin is not Origin.MOVE:
            return False
        chain.base_wanted = True
        before = rebuild.groups(self._archive, chain.database_id, chain.generation - 1)
        if not rebuild.is_whole(before, chain.before_ms):
            return False
        place = segments.folder(chain.database_id, chain.generation, 0)
        self._archive.put(f"{place}/{segments.base_name(segments.end_before(chain.before_ms))}", b"")
        return True

    def _ended_ms(self, chain: Chain) -> int:
        """When the generation before ended: by another machine's clock, maybe, which is behind no more than ours."""
        every = rebuild.generations(self._archive, chain.database_id)
        number = max((number for number in every if number < chain.generation), default=0)
        return rebuild.last_ms(rebuild.groups(self._archive, chain.database_id, number)) if number else 0

    def _leave_gap(self, chain: Chain) -> None:
        """The WAL has reached its bound: let go of it unshipped. Until the next base there is no history."""
        _log.error("the history of %s has a gap: the archive is away, and the WAL is full", chain.database_id)
        with copies.faults():
            chain.gap.touch()
            sync_folder(chain.gap.parent)
        chain.commits.clear()
        chain.position = None
        self._due.add(chain)

    @staticmethod
    def _wait_for_job(chain: Chain) -> None:
        """Until every job of the writer that had begun has noted its commit."""
        begun = chain.begun
        end = time.monotonic() + 2 * QUERY_SECONDS_MAX
        while chain.ended < begun:
            if time.monotonic() > end:
                raise StoreUnavailable(retry_after_ms=1_000)
            time.sleep(_JOB_POLL_S)


@contextmanager
def _faults() -> Iterator[None]:
    """Tell what goes wrong with the disk, or with an archive whose objects vanish."""
    try:
        with copies.faults():
            yield
    except ObjectMissing as error:
        raise StoreUnavailable(retry_after_ms=1_000) from error


def _slices(
    found: list[tuple[wal.Frame, memoryview]], start: int, commits: list[Commit]
) -> tuple[tuple[Slice, ...], list[memoryview]]:
    """What frames change, commit by commit; of commits within a moment only the last, and of each page the last."""
    ends: dict[int, Commit] = {}
    for commit in commits:
        if start < commit.frames <= start + len(found):
            ends[commit.at_ms // HISTORY_SLICE_MS] = commit
    bounds = [(commit.frames - start, commit.at_ms) for commit in ends.values()]
    if not bounds or bounds[-1][0] < len(found):
        bounds.append((len(found), 0))
    slices: list[Slice] = []
    images: list[memoryview] = []
    begin = 0
    for end, at_ms in bounds:
        pages = {frame.page: page for frame, page in found[begin:end]}
        after = found[end - 1][0].pages_after_commit if at_ms else 0
        assert after or not at_ms, "what was noted as a commit is none"
        slices.append(Slice(at_ms, after, tuple(pages)))
        images += pages.values()
        begin = end
    return tuple(slices), images
