import asyncio
import contextlib
import random
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from s3_server import S3Server
from sqlite_node import Node, sqlite_node, until

from tovuk_kit.clock import FakeClock
from tovuk_kit.errors import StoreUnavailable, TovukError
from tovuk_sqlite.chain import Chain, Origin
from tovuk_sqlite.directory import Target
from tovuk_sqlite.limits import CHECKPOINT_BYTES, COMPACT_AFTER_MS
from tovuk_sqlite.store import copies, expiry
from tovuk_sqlite.store.backups import Status
from tovuk_sqlite.store.base import Engine, Writer
from tovuk_sqlite.store.directory_archive import DirectoryArchive
from tovuk_sqlite.store.rebuild import NoHistory
from tovuk_sqlite.store.s3_archive import S3Archive
from tovuk_sqlite.store.segments import Damaged

DAY_MS = 86_400_000
INSTANTS, FULL_INSTANTS = 12, 50


class Story:
    """A database whose one clock row says when it was last written, and what it said when."""

    def __init__(self, node: Node, target: Target, clock: FakeClock) -> None:
        self.node = node
        self.target = target
        self.clock = clock
        #: What the clock row was set to, and the time by which that was answered.
        self.told: list[tuple[int, int]] = []

    async def begin(self) -> None:
        await self.node.run(
            self.target, "create table clock(ms)", "create table filler(x)", "insert into clock values (0)"
        )
        await self.shipped()

    async def tick(self, *more: Any) -> int:
        """Set the clock row."""
        now = self.clock.wall_ms()
        await self.node.run(self.target, ("update clock set ms = ?", [now]), *more)
        self.told.append((now, self.clock.wall_ms()))
        return now

    async def chain(self) -> Chain:
        database = await self.node.databases.directory.resolve(self.target)
        return self.node.history.chain(database.id, database.generation)

    async def shipped(self) -> None:
        """Until all is in the archive, and the base too."""
        chain = await self.chain()
        await until(lambda: not chain.commits and chain.position is not None and not chain.base_wanted)

    async def checkpoint(self) -> None:
        chain = await self.chain()
        database = await self.node.databases.directory.resolve(self.target)
        # Not a job of the writer's own, so that nothing is noted for it.
        await self.node.files.writing(database, lambda writer: self.node.history.checkpoint(chain, writer))

    def at(self, at_ms: int, path: Path, number: int = 1) -> int:
        """What the clock row said at a moment of a generation."""
        chain = next(iter(self.node.history._chains.values()))
        path.unlink(missing_ok=True)
        self.node.history.rebuild(chain.database_id, number, at_ms, path)
        assert self.node.files.engine.problems(path) == []
        with contextlib.closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)) as file:
            found: int = file.execute("select ms from clock").get
        for suffix in ("-wal", "-shm"):
            path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)
        return found


class AwayArchive(DirectoryArchive):
    """An archive that can be cut off."""

    away = False

    def put(self, name: str, content: bytes) -> None:
        if self.away:
            raise StoreUnavailable(retry_after_ms=1_000)
        super().put(name, content)


class DyingArchive(DirectoryArchive):
    """An archive whose user dies before one of its changes."""

    changes_left = -1

    def put(self, name: str, content: bytes) -> None:
        self._live()
        super().put(name, content)

    def remove(self, name: str) -> None:
        self._live()
        super().remove(name)

    def _live(self) -> None:
        if self.changes_left == 0:
            raise KeyboardInterrupt
        self.changes_left -= 1


class UnansweringArchive(DirectoryArchive):
    """An archive that keeps what is put, and may fail to say so."""

    answers = True

    def put(self, name: str, content: bytes) -> None:
        super().put(name, content)
        if not self.answers:
            raise StoreUnavailable(retry_after_ms=1_000)


class WatchedArchive(DirectoryArchive):
    """An archive that has something else done before it keeps what is put."""

    meanwhile: Callable[[], object] | None = None

    def put(self, name: str, content: bytes) -> None:
        if self.meanwhile is not None:
            self.meanwhile()
        super().put(name, content)


class StoryClock(FakeClock):
    """A clock that tells another time whenever it is asked."""

    def wall_ms(self) -> int:
        self.advance(1)
        return super().wall_ms()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tovuk_sqlite.shipping.SHIP_EVERY_S", 0.02)
    monkeypatch.setattr("tovuk_sqlite.shipping.PAUSE_S", 0.02)


@contextlib.asynccontextmanager
async def told(tmp_path: Path, engine: Engine, clock: FakeClock, archive: Any = None) -> AsyncIterator[Story]:
    async with sqlite_node(tmp_path, engine, clock=clock, archive=archive) as node:
        story = Story(node, await node.create(), clock)
        await story.begin()
        yield story


@pytest.fixture
async def story(tmp_path: Path, engine: Engine) -> AsyncIterator[Story]:
    async with told(tmp_path, engine, StoryClock()) as begun:
        yield begun


def history_of(node: Node) -> Iterator[Path]:
    yield from sorted((node.data_dir / "archive").glob("*/history/*/*/*"))


async def test_every_moment_shows_what_was_committed_until_then(
    story: Story, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    chance = random.Random(3)
    for n in range(300):
        more: list[Any] = []
        match chance.randrange(8):
            case 0:
                more = [("insert into filler values (randomblob(?))", [chance.randrange(60_000)])]
            case 1:
                more = ["delete from filler where rowid % 3 = 0"]
            case 2:
                story.clock.advance(chance.randrange(3_000))
        await story.tick(*more)
        if n % 40 == 0:
            await story.checkpoint()
    count = FULL_INSTANTS if pytestconfig.getoption("full") else INSTANTS
    for at_ms in [chance.randrange(story.told[0][1], story.told[-1][1] + 2_000) for _ in range(count)]:
        found = await asyncio.to_thread(story.at, at_ms, tmp_path / "then")
        least = max(now for now, answered in story.told if answered <= at_ms - 50)
        assert least <= found <= at_ms


async def test_what_is_shipped_while_it_is_written_is_shipped_whole(story: Story, tmp_path: Path) -> None:
    chain = await story.chain()
    ended = False

    async def write() -> None:
        while not ended:
            await story.tick()

    writers = [asyncio.create_task(write()) for _ in range(8)]
    try:
        for _ in range(300):
            await asyncio.to_thread(story.node.history.ship, chain)
    finally:
        ended = True
        await asyncio.gather(*writers)
    last = await story.tick()
    assert await asyncio.to_thread(story.at, story.clock.wall_ms(), tmp_path / "then") == last


async def test_what_is_committed_during_a_shipment_waits_for_the_next_one(tmp_path: Path, engine: Engine) -> None:
    archive = WatchedArchive(tmp_path / "archive", "store")
    async with told(tmp_path, engine, StoryClock(), archive) as story:
        await story.node.shipping.close()
        chain, loop, ticks = await story.chain(), asyncio.get_running_loop(), iter(range(5))

        def write() -> None:
            for _ in ticks:
                asyncio.run_coroutine_threadsafe(story.tick(), loop).result(30)
                break

        await story.tick()
        archive.meanwhile = write
        before = list(history_of(story.node))
        await asyncio.to_thread(story.node.history.ship, chain)
        assert len(list(history_of(story.node))) == len(before) + 1
        archive.meanwhile = None
        assert await asyncio.to_thread(story.at, story.clock.wall_ms(), tmp_path / "then") == story.told[-1][0]


async def test_a_database_that_was_put_back_by_hand_has_a_new_history(tmp_path: Path, engine: Engine) -> None:
    clock = StoryClock()
    async with told(tmp_path / "data", engine, clock) as story:
        first = await story.tick()
        await story.shipped()
    older = tmp_path / "older"
    shutil.copytree(tmp_path / "data" / "databases", older)
    first_ms = clock.wall_ms()
    clock.advance(1_000)
    async with sqlite_node(tmp_path / "data", engine, clock=clock) as node:
        again = Story(node, story.target, clock)
        second, second_ms = await again.tick(), clock.wall_ms()
        clock.advance(1_000)
        await again.tick()
        await again.shipped()
    shutil.rmtree(tmp_path / "data" / "databases")
    shutil.copytree(older, tmp_path / "data" / "databases")
    clock.advance(1_000)
    async with sqlite_node(tmp_path / "data", engine, clock=clock) as node:
        again = Story(node, story.target, clock)
        await again.shipped()
        last = await again.tick()
        await again.shipped()
        assert await asyncio.to_thread(again.at, first_ms, tmp_path / "then") == first
        assert await asyncio.to_thread(again.at, clock.wall_ms(), tmp_path / "then") == last
        assert await asyncio.to_thread(again.at, second_ms, tmp_path / "then") == second


async def test_a_base_is_for_moments_after_every_write_that_had_begun_with_it(story: Story) -> None:
    chain = await story.chain()
    database = await story.node.databases.directory.resolve(story.target)
    begun, go_on = threading.Event(), threading.Event()

    def job(_writer: Writer) -> None:
        begun.set()
        go_on.wait(30)

    writing = asyncio.create_task(story.node.files.writing(database, job))
    await asyncio.to_thread(begun.wait, 30)
    chain.base_wanted = True
    copying = asyncio.create_task(asyncio.to_thread(story.node.history.take_base, chain))
    await asyncio.sleep(0.2)
    assert not copying.done()
    go_on.set()
    await asyncio.gather(writing, copying)
    assert not chain.base_wanted


async def test_a_base_is_in_the_archive_after_every_commit_that_it_may_hold(tmp_path: Path, engine: Engine) -> None:
    archive = AwayArchive(tmp_path / "archive", "store")
    async with told(tmp_path, engine, StoryClock(), archive) as story:
        await story.node.shipping.close()
        chain, before = await story.chain(), set(history_of(story.node))
        archive.away = True
        await story.tick()
        chain.base_wanted = True
        with pytest.raises(StoreUnavailable):
            await asyncio.to_thread(story.node.history.take_base, chain)
        assert set(history_of(story.node)) == before
        archive.away = False
        await asyncio.to_thread(story.node.history.take_base, chain)
        assert not chain.commits and not chain.base_wanted


async def test_a_moment_that_is_just_over_is_there_at_once(story: Story, tmp_path: Path) -> None:
    for _ in range(5):
        now = await story.tick()
        assert await asyncio.to_thread(story.at, story.clock.wall_ms(), tmp_path / "then") == now


async def test_a_transaction_of_many_segments_is_there_whole_or_not_at_all(story: Story, tmp_path: Path) -> None:
    before = await story.tick()
    between = story.clock.wall_ms()
    story.clock.advance(1_000)
    after = await story.tick("insert into filler select randomblob(100000) from json_each('[" + "1," * 99 + "1]')")
    assert await asyncio.to_thread(story.at, between, tmp_path / "then") == before
    assert await asyncio.to_thread(story.at, story.clock.wall_ms(), tmp_path / "then") == after


async def test_a_moment_before_a_large_transaction_that_was_shipped_with_it_has_none_of_it(
    story: Story, tmp_path: Path
) -> None:
    await story.node.shipping.close()
    before = await story.tick()
    between = story.clock.wall_ms()
    story.clock.advance(1_000)
    # It touches the page of the clock row, too, and lies in several segments.
    after = await story.tick("insert into filler select randomblob(100000) from json_each('[" + "1," * 99 + "1]')")
    assert await asyncio.to_thread(story.at, between, tmp_path / "then") == before
    assert await asyncio.to_thread(story.at, story.clock.wall_ms(), tmp_path / "then") == after


async def test_what_was_put_without_an_answer_and_put_again_with_more_is_there_once(
    tmp_path: Path, engine: Engine
) -> None:
    archive = UnansweringArchive(tmp_path / "archive", "store")
    async with told(tmp_path, engine, StoryClock(), archive) as story:
        await story.node.shipping.close()
        chain = await story.chain()
        archive.answers = False
        first = await story.tick()
        with pytest.raises(StoreUnavailable):
            story.node.history.ship(chain)
        archive.answers = True
        between = story.clock.wall_ms()
        story.clock.advance(1_000)
        second = await story.tick("insert into filler values (randomblob(20000))")
        story.node.history.ship(chain)
        then = story.clock.wall_ms()
        story.clock.advance(1_000)
        await story.tick()
        for moment, expected in ((between, first), (then, second), (story.clock.wall_ms(), story.told[-1][0])):
            assert await asyncio.to_thread(story.at, moment, tmp_path / "then") == expected


async def test_a_history_that_was_marked_as_ended_may_go_on(story: Story, tmp_path: Path) -> None:
    chain = await story.chain()
    before = await story.tick()
    ended_ms = await asyncio.to_thread(story.node.history.finish, chain, story.clock.wall_ms())
    after = await story.tick()
    assert await asyncio.to_thread(story.at, ended_ms, tmp_path / "then") == before
    story.clock.advance(1_000)
    assert await asyncio.to_thread(story.at, story.clock.wall_ms(), tmp_path / "then") == after


async def test_the_next_generation_begins_after_the_one_before_has_ended_whatever_the_clock_says(
    tmp_path: Path, engine: Engine
) -> None:
    clock = StoryClock()
    async with told(tmp_path, engine, clock) as story:
        chain = await story.chain()
        ended_ms = story.node.history.finish(chain, clock.wall_ms() + 60_000)
        other = story.node.history.chain(chain.database_id, 2)
        story.node.files.engine.create(other.path)
        await until(lambda: other.position is not None)
        assert other.floor_ms == ended_ms > clock.wall_ms()


async def came(story: Story) -> Chain:
    """The next generation, with the pages that the first one ended with, as at the shard that a database moves to."""
    node, chain = story.node, await story.chain()
    database = await node.databases.directory.resolve(story.target)
    ended_ms = node.history.finish(chain, story.clock.wall_ms())
    path = chain.path.with_name("2.sqlite")
    node.files.engine.copy(chain.path, path)
    # The shard that it leaves removes usage once more, when it is too late.
    await node.run(story.target, "delete from filler")
    node.history.ship(chain)
    with contextlib.closing(node.files.engine.open_writer(path)) as writer:
        copies.forget_usage(writer)
    await node.catalog.file.write(lambda connection: connection.execute("UPDATE database SET generation = 2"))
    node.databases.directory.forget(database)
    return node.history.chain(database.id, 2, Origin.MOVE, ended_ms)


async def test_a_generation_that_came_from_another_shard_goes_on_from_the_end_of_the_one_before(
    story: Story, tmp_path: Path
) -> None:
    await story.node.shipping.close()
    for _ in range(3):
        before = await story.tick("insert into filler values (randomblob(20000))")
        story.clock.advance(1_000)
    chain, history = await came(story), story.node.history
    came_ms = story.clock.wall_ms()
    for _ in range(3):
        story.clock.advance(1_000)
        now = await story.tick("delete from filler where rowid = (select min(rowid) from filler)")
        assert await asyncio.to_thread(story.at, story.clock.wall_ms(), tmp_path / "then", 2) == now
    assert await asyncio.to_thread(story.at, came_ms, tmp_path / "then", 2) == before
    assert expiry.earliest_ms(story.node.archive, chain.database_id, 2) <= came_ms
    first = tmp_path / "archive" / chain.database_id / "history" / "000001"
    ended = {1: story.clock.wall_ms()}
    story.clock.advance(1_000)
    expiry.expire(story.node.archive, chain.database_id, ended, story.clock.wall_ms())
    assert first.exists()
    assert chain.base_wanted
    history.take_base(chain)
    expiry.expire(story.node.archive, chain.database_id, ended, story.clock.wall_ms())
    assert not first.exists()
    assert await asyncio.to_thread(story.at, story.clock.wall_ms(), tmp_path / "then", 2) == now


async def test_a_generation_that_came_goes_on_by_itself_where_the_one_before_is_not_whole(
    story: Story, tmp_path: Path
) -> None:
    await story.node.shipping.close()
    chain = await story.chain()
    for _ in range(3):
        await story.tick()
        story.node.history.ship(chain)
    sorted(path for path in history_of(story.node) if not path.name.startswith("base"))[-2].unlink()
    chain = await came(story)
    now = await story.tick()
    story.node.history.ship(chain)
    with pytest.raises(NoHistory):
        await asyncio.to_thread(story.at, story.clock.wall_ms(), tmp_path / "then", 2)
    story.node.history.take_base(chain)
    assert await asyncio.to_thread(story.at, story.clock.wall_ms(), tmp_path / "then", 2) == now


async def test_the_wal_is_copied_back_only_when_all_of_it_is_shipped(tmp_path: Path, engine: Engine) -> None:
    archive = AwayArchive(tmp_path / "archive", "store")
    async with told(tmp_path, engine, StoryClock(), archive) as story:
        chain = await story.chain()
        archive.away = True
        now = await story.tick("insert into filler values (zeroblob(1000000))")
        await story.checkpoint()
        story.clock.advance(1_000)
        later = await story.tick()
        assert chain.wal.stat().st_size > 1_000_000
        archive.away = False
        assert await asyncio.to_thread(story.at, story.told[-2][1], tmp_path / "then") == now
        await story.checkpoint()
        size = chain.wal.stat().st_size
        story.clock.advance(1_000)
        await story.tick()
        assert chain.wal.stat().st_size == size
        assert await asyncio.to_thread(story.at, story.told[-2][1], tmp_path / "then") == later


async def test_a_checkpoint_ships_what_nobody_shipped_before(tmp_path: Path, engine: Engine) -> None:
    archive = AwayArchive(tmp_path / "archive", "store")
    async with told(tmp_path, engine, StoryClock(), archive) as story:
        await story.node.shipping.close()
        archive.away = True
        first = await story.tick()
        await story.checkpoint()
        story.clock.advance(1_000)
        await story.tick("insert into filler values (randomblob(400000))")
        archive.away = False
        assert await asyncio.to_thread(story.at, story.told[0][1] + 500, tmp_path / "then") == first
        story.clock.advance(1_000)
        third = await story.tick()
        await story.checkpoint()
        story.clock.advance(1_000)
        await story.tick()
        assert await asyncio.to_thread(story.at, story.told[2][1] + 500, tmp_path / "then") == third


async def test_writes_are_answered_while_a_log_that_has_grown_is_shipped(tmp_path: Path, engine: Engine) -> None:
    archive = WatchedArchive(tmp_path / "archive", "store")
    async with told(tmp_path, engine, StoryClock(), archive) as story:
        await story.node.shipping.close()
        begun, go_on = threading.Event(), threading.Event()
        half = ("insert into filler values (zeroblob(?))", [CHECKPOINT_BYTES // 2])
        await story.tick(half, half)

        def wait() -> None:
            begun.set()
            assert go_on.wait(30)

        archive.meanwhile = wait
        looking = asyncio.create_task(story.node.files.checkpoint())
        assert await asyncio.to_thread(begun.wait, 30)
        before = (await story.chain()).path.stat().st_size
        try:
            await asyncio.wait_for(story.tick(), 20)
            assert not looking.done()
        finally:
            go_on.set()
            archive.meanwhile = None
        await looking
        assert (await story.chain()).path.stat().st_size > before + CHECKPOINT_BYTES
        assert await asyncio.to_thread(story.at, story.clock.wall_ms(), tmp_path / "then") == story.told[-1][0]


async def test_a_log_that_was_full_once_leaves_no_gap_when_the_archive_is_away_for_a_moment(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tovuk_sqlite.history.HISTORY_WAL_BYTES_MAX", 500_000)
    archive = AwayArchive(tmp_path / "archive", "store")
    async with told(tmp_path, engine, StoryClock(), archive) as story:
        chain = await story.chain()
        await story.tick("insert into filler values (zeroblob(1000000))")
        await story.checkpoint()
        await story.tick()
        archive.away = True
        lost_ms = story.clock.wall_ms()
        now = await story.tick()
        await story.checkpoint()
        archive.away = False
        assert chain.wal.stat().st_size > 500_000
        assert not chain.gap.exists()
        story.clock.advance(1_000)
        await story.tick()
        await story.shipped()
        assert await asyncio.to_thread(story.at, lost_ms + 50, tmp_path / "then") == now


async def test_an_archive_that_is_away_for_long_costs_history_and_no_write(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tovuk_sqlite.history.HISTORY_WAL_BYTES_MAX", 500_000)
    archive = AwayArchive(tmp_path / "archive", "store")
    async with told(tmp_path, engine, StoryClock(), archive) as story:
        before = await story.tick()
        story.clock.advance(1_000)
        until_ms = story.clock.wall_ms()
        await story.tick()
        await story.shipped()
        archive.away = True
        for _ in range(10):
            await story.tick("update filler set x = x", "insert into filler values (zeroblob(100000))")
            await story.checkpoint()
        lost_ms = story.clock.wall_ms()
        assert (await story.chain()).gap.exists()
        archive.away = False
        await story.tick()
        await story.shipped()
        assert not (await story.chain()).gap.exists()
        after = await story.tick()
        assert await asyncio.to_thread(story.at, until_ms, tmp_path / "then") == before
        assert await asyncio.to_thread(story.at, story.clock.wall_ms(), tmp_path / "then") == after
        with pytest.raises(Damaged):
            await asyncio.to_thread(story.at, lost_ms, tmp_path / "then")


async def test_a_process_goes_on_with_the_history_of_the_one_before(tmp_path: Path, engine: Engine) -> None:
    clock = StoryClock()
    async with told(tmp_path, engine, clock) as story:
        first = await story.tick()
    ended_ms = clock.wall_ms()
    for _ in range(3):
        async with sqlite_node(tmp_path, engine, clock=clock) as node:
            again = Story(node, story.target, clock)
            last = await again.tick()
            await again.shipped()
            assert await asyncio.to_thread(again.at, ended_ms, tmp_path / "then") == first
            assert await asyncio.to_thread(again.at, clock.wall_ms(), tmp_path / "then") == last
            assert len([path for path in history_of(node) if path.name.startswith("base")]) == 1


async def test_commits_of_a_process_that_died_are_shipped_by_the_next(tmp_path: Path, engine: Engine) -> None:
    archive = AwayArchive(tmp_path / "archive", "store")
    left = tmp_path / "left"
    async with told(tmp_path / "dies", engine, StoryClock(), archive) as story:
        await story.tick()
        await story.shipped()
        archive.away = True
        last = await story.tick()
        shutil.copytree(story.node.data_dir, left)
    archive.away = False
    clock = StoryClock(wall_ms=1_800_000_100_000)
    async with sqlite_node(left, engine, clock=clock, archive=archive) as node:
        again = Story(node, story.target, clock)
        await again.shipped()
        assert await asyncio.to_thread(again.at, clock.wall_ms(), tmp_path / "then") == last


async def test_what_is_lost_or_changed_is_found(story: Story, tmp_path: Path) -> None:
    for _ in range(4):
        await story.tick()
        await story.shipped()
    at_ms = story.clock.wall_ms()
    every = list(history_of(story.node))
    bases = [path for path in every if path.name.startswith("base")]
    objects = [path for path in every if path.parent == bases[-1].parent]
    assert len(objects) >= 6
    for path in objects:
        content = path.read_bytes()
        changed = bytearray(content)
        changed[len(changed) // 2] ^= 1
        path.write_bytes(changed)
        with pytest.raises(Damaged):
            await asyncio.to_thread(story.at, at_ms, tmp_path / "then")
        path.unlink()
        with pytest.raises((Damaged, NoHistory)):
            await asyncio.to_thread(story.at, at_ms, tmp_path / "then")
        path.write_bytes(content)
    assert await asyncio.to_thread(story.at, at_ms, tmp_path / "then") == story.told[-1][0]


async def test_a_commit_that_is_missing_between_parts_of_transactions_is_found(
    story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await story.tick()
    await story.shipped()
    await story.node.shipping.close()
    before = set(history_of(story.node))
    monkeypatch.setattr("tovuk_sqlite.history.SEGMENT_ENTRIES_MAX", 10)
    story.clock.advance(1_000)
    await story.tick("insert into filler values (randomblob(60000))")
    story.node.history.ship(await story.chain())
    end = sorted(set(history_of(story.node)) - before)[-1]
    at_ms = story.clock.wall_ms()
    story.clock.advance(1_000)
    await story.tick()
    story.node.history.ship(await story.chain())
    end.unlink()
    with pytest.raises(Damaged):
        await asyncio.to_thread(story.at, at_ms, tmp_path / "then")


async def test_a_long_history_gets_new_bases_and_old_ones_expire(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tovuk_sqlite.history.SEGMENTS_ENTRIES_MAX", 5)
    clock = StoryClock()
    async with told(tmp_path, engine, clock) as story:
        for _ in range(20):
            await story.tick()
            clock.advance(DAY_MS)
            await story.shipped()
        assert len([path for path in history_of(story.node) if path.name.startswith("base")]) >= 3
        for now, answered in story.told:
            assert await asyncio.to_thread(story.at, answered, tmp_path / "then") == now
        await story.node.catalog.note_plan("account", "free")
        await story.node.backups.tend_history()
        with pytest.raises(NoHistory):
            await asyncio.to_thread(story.at, story.told[0][1], tmp_path / "then")
        for now, answered in story.told[-7:]:
            assert await asyncio.to_thread(story.at, answered, tmp_path / "then") == now


@pytest.fixture
async def long_story(tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Story]:
    """Several groups of segments, all but the last of them complete, and nothing that ships on its own."""
    monkeypatch.setattr("tovuk_sqlite.history.SEGMENTS_ENTRIES_MAX", 5)
    async with told(tmp_path, engine, StoryClock(), DyingArchive(tmp_path / "archive", "store")) as story:
        for _ in range(14):
            await story.tick("insert into filler values (randomblob(5000))")
            story.clock.advance(100)
            await story.shipped()
        await story.node.shipping.close()
        story.clock.advance(2 * COMPACT_AFTER_MS)
        yield story


def _segments(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "archive").glob("*/history/*/*/*") if not path.name.startswith("base")]


async def test_segments_of_complete_groups_are_compacted_and_every_moment_stays(
    long_story: Story, tmp_path: Path
) -> None:
    story, before = long_story, _segments(tmp_path)
    groups = {path.parent for path in before}
    assert len(groups) >= 3
    database_id = (await story.chain()).database_id
    story.node.history.compact(database_id, 1)
    after = _segments(tmp_path)
    last = max(groups)
    assert sorted(path for path in after if path.parent == last) == sorted(
        path for path in before if path.parent == last
    )
    assert len([path for path in after if path.parent != last]) == len(groups) - 1
    for now, answered in story.told:
        assert await asyncio.to_thread(story.at, answered, tmp_path / "then") == now
    story.node.history.compact(database_id, 1)
    assert _segments(tmp_path) == after


async def test_a_process_that_dies_at_any_step_of_a_compaction_loses_no_moment(
    long_story: Story, tmp_path: Path
) -> None:
    story, archive = long_story, long_story.node.archive
    assert isinstance(archive, DyingArchive)
    database_id, deaths = (await story.chain()).database_id, 0
    for archive.changes_left in range(100):
        try:
            story.node.history.compact(database_id, 1)
        except KeyboardInterrupt:
            deaths += 1
        else:
            break
        for now, answered in story.told[:: len(story.told) // 4]:
            assert await asyncio.to_thread(story.at, answered, tmp_path / "then") == now
    assert deaths > 3
    groups = sorted({path.parent for path in _segments(tmp_path)})
    assert all(len([*group.glob("0*")]) == 1 for group in groups[:-1])


async def test_a_moment_can_be_rebuilt_while_its_segments_are_compacted(
    long_story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story, archive = long_story, long_story.node.archive
    database_id = (await story.chain()).database_id
    get_file = archive.get_file

    def compacted_first(name: str, path: Path) -> None:
        story.node.history.compact(database_id, 1)
        get_file(name, path)

    monkeypatch.setattr(archive, "get_file", compacted_first)
    now, answered = story.told[3]
    assert await asyncio.to_thread(story.at, answered, tmp_path / "then") == now


async def test_damaged_segments_are_not_compacted(long_story: Story, tmp_path: Path) -> None:
    story, before = long_story, _segments(tmp_path)
    damaged = sorted(before)[1]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    story.node.history.compact((await story.chain()).database_id, 1)
    assert {path for path in before if path.parent == damaged.parent} <= set(_segments(tmp_path))


async def test_a_database_is_put_back_to_a_moment_of_any_of_its_generations(story: Story) -> None:
    node, db = story.node, story.target
    moments = []
    for _ in range(3):
        moments.append((await story.tick(), story.clock.wall_ms()))
        story.clock.advance(1_000)
        begun = await node.backups.restore_moment(db, "free", moments[0][1])
        restore = await node.until_restored(db, begun.id)
        assert (restore.status, restore.reason) == (Status.READY, "")
        assert await node.run(db, "select ms from clock") == [[moments[0][0]]]
        await node.until_made(db, restore.safety_id)
        await story.shipped()
    for now, at_ms in moments:
        begun = await node.backups.restore_moment(db, "free", at_ms)
        assert (await node.until_restored(db, begun.id)).status is Status.READY
        assert await node.run(db, "select ms from clock") == [[now]]
        await story.shipped()


async def test_a_moment_before_the_history_or_to_come_is_refused(story: Story) -> None:
    for at_ms in (1, story.clock.wall_ms() + 60_000):
        with pytest.raises(TovukError) as refused:
            await story.node.backups.restore_moment(story.target, "free", at_ms)
        assert refused.value.code == "sqlite_moment_unavailable"


async def test_a_damaged_history_restores_nothing(story: Story) -> None:
    await story.tick()
    await story.shipped()
    at_ms = story.clock.wall_ms()
    last = await story.tick()
    for path in history_of(story.node):
        if not path.name.startswith("base"):
            path.write_bytes(b"?")
    begun = await story.node.backups.restore_moment(story.target, "free", at_ms)
    restore = await story.node.until_restored(story.target, begun.id)
    assert (restore.status, restore.reason) == (Status.FAILED, "sqlite_history_damaged")
    assert await story.node.run(story.target, "select ms from clock") == [[last]]


async def test_backups_and_history_may_live_in_a_bucket(tmp_path: Path, engine: Engine, s3: S3Server) -> None:
    archive = S3Archive.at(s3.url)
    async with told(tmp_path, engine, StoryClock(), archive) as story:
        node, db = story.node, story.target
        backup = await node.backed_up(db)
        assert backup.status is Status.READY
        now = await story.tick("insert into filler values (randomblob(300000))")
        at_ms = story.clock.wall_ms()
        story.clock.advance(1_000)
        await story.checkpoint()
        s3.kill()
        later = await story.tick()
        await story.checkpoint()
        assert (await node.backed_up(db)).reason == "store_unavailable"
        s3.start()
        assert await asyncio.to_thread(story.at, story.clock.wall_ms(), tmp_path / "then") == later
        begun = await node.backups.restore_moment(db, "free", at_ms)
        assert (await node.until_restored(db, begun.id)).status is Status.READY
        assert await node.run(db, "select ms from clock") == [[now]]
        begun = await node.backups.restore(db, "free", backup.id)
        assert (await node.until_restored(db, begun.id)).status is Status.READY
        assert await node.run(db, "select ms from clock") == [[0]]
    assert not (tmp_path / "archive").exists()


async def test_the_history_of_a_deleted_database_is_removed(story: Story) -> None:
    await story.tick()
    database = await story.node.databases.directory.resolve(story.target)
    assert await story.node.backups.forget(database)
    await story.tick()
    await asyncio.sleep(0.1)
    assert list(history_of(story.node)) == []
