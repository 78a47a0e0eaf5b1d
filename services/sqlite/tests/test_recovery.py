"""A shard whose folder is lost, and whose archive is not as it was left."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import pytest
from s3_server import S3Server
from sqlite_node import Node, engine_of, sqlite_node, until

from tovuk_kit.clock import FakeClock
from tovuk_kit.errors import StoreUnavailable, TovukError
from tovuk_sqlite.clients.control import Placed
from tovuk_sqlite.directory import Target
from tovuk_sqlite.recovery import DataLoss, recover
from tovuk_sqlite.store import segments
from tovuk_sqlite.store.archive import Archive
from tovuk_sqlite.store.backups import Backup, Status
from tovuk_sqlite.store.base import Engine
from tovuk_sqlite.store.catalog import SqliteCatalog
from tovuk_sqlite.store.directory_archive import DirectoryArchive
from tovuk_sqlite.store.s3_archive import S3Archive
from tovuk_sqlite.store.wal import Salts

HURT, WHOLE = Target("account", "service", "HURT"), Target("account", "service", "WHOLE")
#: What the first counts to; when it gets bases, after its first one, and its backup.
TICKS, BASES_AFTER, BACKED_UP_AFTER = 14, (5, 10), 7


@dataclass(frozen=True)
class Lost:
    """What a folder had shipped of two databases, before it was lost."""

    root: Path
    placed: list[Placed]
    #: A backup of the first, from its middle.
    backup: Backup
    #: What the first said when: its number, and a moment right after that.
    told: list[tuple[int, int]]
    lost_at_ms: int

    @property
    def hurt(self) -> str:
        return self.placed[0].id


class _Clock(FakeClock):
    """A clock that tells another time whenever it is asked."""

    def wall_ms(self) -> int:
        self.advance(1)
        return super().wall_ms()


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory) -> Lost:
    return asyncio.run(_lose(tmp_path_factory.mktemp("lost")))


async def _lose(folder: Path) -> Lost:
    clock, told = _Clock(), []
    async with sqlite_node(folder, engine_of("stock"), clock=clock) as node:
        placed = []
        for target in (HURT, WHOLE):
            await node.create(target.ref)
            await node.run(target, "create table t(number, filler)", "insert into t(number) values (0)")
            await _shipped(node, target)
            found = await node.databases.directory.resolve(target)
            placed.append(Placed(found.id, found.name, found.service_id, found.account_id, found.created_at_ms))
        await node.shipping.close()
        chain = node.history.chain(placed[0].id, 1)
        for number in range(1, TICKS + 1):
            await node.run(HURT, ("update t set number = ?, filler = randomblob(3000)", [number]))
            told.append((number, clock.wall_ms()))
            clock.advance(1_000)
            await asyncio.to_thread(node.history.ship, chain)
            chain.base_wanted = number in BASES_AFTER
            await asyncio.to_thread(node.history.take_base, chain)
            if number == BACKED_UP_AFTER:
                backup = await node.backed_up(HURT)
    return Lost(folder / "archive", placed, backup, told, clock.wall_ms())


async def _shipped(node: Node, target: Target) -> None:
    database = await node.databases.directory.resolve(target)
    chain = node.history.chain(database.id, database.generation)
    await until(lambda: not chain.commits and chain.position is not None and not chain.base_wanted)


@pytest.fixture(params=["directory", "s3"])
def archive(request: pytest.FixtureRequest, lost: Lost, tmp_path: Path) -> Archive:
    """A copy of what was shipped."""
    if request.param == "directory":
        shutil.copytree(lost.root, tmp_path / "archive")
        return DirectoryArchive(tmp_path / "archive", "store")
    server: S3Server = request.getfixturevalue("s3")
    archive = S3Archive.at(server.url)
    for path in lost.root.rglob("*-*"):
        archive.put_file(str(path.relative_to(lost.root)), path)
    return archive


@pytest.fixture(params=["stock"])
def engine_name(request: pytest.FixtureRequest) -> str:
    """What is read of an archive does not depend on the engine."""
    name: str = request.param
    return name


class Shard:
    """A new folder, in which a lost one is rebuilt."""

    def __init__(self, folder: Path, engine: Engine, archive: Archive, lost: Lost) -> None:
        self._folder = folder
        self._engine = engine
        self._archive = archive
        self._lost = lost
        self._clock = _Clock(wall_ms=lost.lost_at_ms + 1_000)

    async def rebuild(self, *, accept_data_loss: bool = False) -> tuple[bool, list[DataLoss]]:
        """Whether all is there, and what was told to be lost."""
        losses: list[DataLoss] = []
        catalog = await SqliteCatalog.open(self._folder, self._engine.library, lost_store_id="0123")
        try:
            whole = await recover(
                catalog,
                self._engine,
                self._archive,
                self._folder,
                self._lost.placed,
                self._clock,
                losses.append,
                accept_data_loss=accept_data_loss,
            )
        finally:
            await catalog.close()
        assert list(self._folder.rglob("*.part*")) == []
        return whole, losses

    def there(self) -> list[str]:
        """The names of the databases in the catalog."""
        with closing(sqlite3.connect(self._folder / "catalog.sqlite")) as catalog:
            return [name for (name,) in catalog.execute("select name from database order by name")]

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Node]:
        async with sqlite_node(self._folder, self._engine, archive=self._archive, clock=self._clock) as node:
            yield node

    async def number(self, node: Node) -> int:
        """What the database says that was damaged."""
        ((number, problem),) = await node.run(HURT, "select number, (select * from pragma_integrity_check) from t")
        assert problem == "ok"
        return int(number)


@pytest.fixture
def shard(tmp_path: Path, engine: Engine, archive: Archive, lost: Lost) -> Shard:
    return Shard(tmp_path / "shard", engine, archive, lost)


def _groups(archive: Archive, lost: Lost) -> list[tuple[str, segments.Group]]:
    """The hurt database's groups, with their folders."""
    place = segments.folder(lost.hurt, 1)
    names = archive.names(place)
    return [(f"{place}/{name}", segments.group(int(name), archive.names(f"{place}/{name}"))) for name in names]


def _flip(archive: Archive, name: str) -> None:
    content = bytearray(archive.get(name))
    content[len(content) // 2] ^= 1
    archive.put(name, bytes(content))


def _objects(archive: Archive, lost: Lost) -> list[str]:
    """The names of all segments with commits."""
    return [
        f"{place}/{segments.segment_name(name)}"
        for place, group in _groups(archive, lost)
        for name in group.segments
        if name.first_ms
    ]


def _bases(archive: Archive, lost: Lost) -> list[str]:
    return [f"{place}/{segments.base_name(base)}" for place, group in _groups(archive, lost) for base in group.bases]


def _last_removed_but_one(archive: Archive, lost: Lost) -> None:
    archive.remove(_objects(archive, lost)[-2])


def _segment_flipped(archive: Archive, lost: Lost) -> None:
    _flip(archive, _objects(archive, lost)[-2])


def _last_flipped(archive: Archive, lost: Lost) -> None:
    _flip(archive, _objects(archive, lost)[-1])


def _last_empty(archive: Archive, lost: Lost) -> None:
    archive.put(_objects(archive, lost)[-1], b"")


def _another_ones(archive: Archive, lost: Lost) -> None:
    first, *_, last = _objects(archive, lost)
    archive.put(last, archive.get(first))


def _group_and_newest_base_gone(archive: Archive, lost: Lost) -> None:
    archive.remove_folder(_groups(archive, lost)[-2][0])
    archive.remove(_bases(archive, lost)[-1])


def _newest_base_flipped(archive: Archive, lost: Lost) -> None:
    _flip(archive, _bases(archive, lost)[-1])


def _newest_base_gone(archive: Archive, lost: Lost) -> None:
    archive.remove(_bases(archive, lost)[-1])


def _group_gone(archive: Archive, lost: Lost) -> None:
    archive.remove_folder(_groups(archive, lost)[-2][0])


def _strange_backup(archive: Archive, lost: Lost) -> None:
    archive.put(f"{lost.hurt}/backups/of-somebody-else", b"")


def _all_bases_gone(archive: Archive, lost: Lost) -> None:
    for name in _bases(archive, lost):
        archive.remove(name)


def _all_bases_flipped(archive: Archive, lost: Lost) -> None:
    for name in _bases(archive, lost):
        _flip(archive, name)


def _rotten(archive: Archive, names: list[str]) -> None:
    """Bases that are what was put there, and which SQLite finds damaged."""
    for name in names:
        content = archive.get(name)
        # The header stays, and nothing that it leads to.
        content = content[:100] + bytes(len(content) - 100)
        place, _, last = name.rpartition("/")
        base = segments.BaseName(int(last.split("-")[1]), len(content), sha256(content).hexdigest())
        archive.remove(name)
        archive.put(f"{place}/{segments.base_name(base)}", content)


def _begun_anew(archive: Archive, lost: Lost) -> None:
    """A generation that has begun, maybe with a restore, and has neither a base nor one to lean on."""
    header = segments.SegmentHeader(lost.hurt, 2, 0, 1, 4096, Salts(0, 0), 0, (0, 0), ())
    first = segments.segment_name(segments.SegmentName(0, 0, 1, 0, 0))
    archive.put(f"{segments.folder(lost.hurt, 2, 0)}/{first}", segments.encode(header, []))


def _newest_base_rotten(archive: Archive, lost: Lost) -> None:
    _rotten(archive, _bases(archive, lost)[-1:])


def _all_bases_rotten(archive: Archive, lost: Lost) -> None:
    _rotten(archive, _bases(archive, lost))


def _history_gone(archive: Archive, lost: Lost) -> None:
    archive.remove_folder(segments.folder(lost.hurt))


@pytest.mark.parametrize(
    "damage", [_newest_base_flipped, _newest_base_gone, _newest_base_rotten, _group_gone, _strange_backup]
)
async def test_what_is_damaged_and_not_needed_costs_nothing(
    shard: Shard, archive: Archive, lost: Lost, damage: Callable[[Archive, Lost], None]
) -> None:
    damage(archive, lost)
    assert await shard.rebuild() == (True, [])
    async with shard.serving() as node:
        assert await shard.number(node) == TICKS
        assert (await node.backups.list(HURT)).backups == [lost.backup]


@pytest.mark.parametrize(
    ("damage", "left"),
    [
        (_last_removed_but_one, TICKS - 2),
        (_segment_flipped, TICKS - 2),
        (_last_flipped, TICKS - 1),
        (_last_empty, TICKS - 1),
        (_another_ones, TICKS - 1),
        (_begun_anew, TICKS),
    ],
)
async def test_a_damaged_database_holds_up_no_other_and_comes_back_as_it_was_before_the_damage_where_that_is_accepted(
    shard: Shard, archive: Archive, lost: Lost, damage: Callable[[Archive, Lost], None], left: int
) -> None:
    damage(archive, lost)
    for _ in range(2):
        whole, (loss,) = await shard.rebuild()
        assert not whole and shard.there() == ["WHOLE"]
    assert (loss.database.id, loss.backup_id) == (lost.hurt, "")
    assert lost.told[left - 2][1] < loss.at_ms <= lost.told[left - 1][1]
    assert await shard.rebuild(accept_data_loss=True) == (True, [loss])
    assert await shard.rebuild() == (True, [])
    async with shard.serving() as node:
        assert await shard.number(node) == left
        assert await node.run(WHOLE, "select number from t") == [[0]]
        await _goes_on(shard, node, lost, left)
    again = Shard(shard._folder.with_name("again"), shard._engine, archive, replace(lost, lost_at_ms=2**41))
    assert await again.rebuild() == (True, [])
    async with again.serving() as node:
        assert await again.number(node) == 100


async def _goes_on(shard: Shard, node: Node, lost: Lost, left: int) -> None:
    """No moment of what is lost can be put back, those before can, and there is a history again."""
    for number, at_ms in lost.told[left:]:
        with pytest.raises(TovukError) as refused:
            await node.backups.restore_moment(HURT, "free", at_ms)
        assert refused.value.code == "sqlite_moment_unavailable", number
    restored, at_ms = lost.told[left - 2]
    again = await node.backups.restore_moment(HURT, "free", at_ms)
    assert (await node.until_restored(HURT, again.id)).status is Status.READY
    assert await shard.number(node) == restored
    await node.run(HURT, "update t set number = 100")
    await _shipped(node, HURT)


async def test_where_the_history_ends_before_a_backup_that_is_what_comes_back(
    shard: Shard, archive: Archive, lost: Lost
) -> None:
    _group_and_newest_base_gone(archive, lost)
    for name in _bases(archive, lost)[1:]:
        archive.remove(name)
    archive.remove(_objects(archive, lost)[2])
    whole, (loss,) = await shard.rebuild(accept_data_loss=True)
    assert whole and (loss.at_ms, loss.backup_id) == (lost.backup.created_at_ms, lost.backup.id)
    assert f"it is put back to its backup {lost.backup.id} of 2027-" in loss.said(accepted=True)
    async with shard.serving() as node:
        assert await shard.number(node) == BACKED_UP_AFTER


@pytest.mark.parametrize("damage", [_all_bases_gone, _all_bases_flipped, _all_bases_rotten, _history_gone])
async def test_without_a_history_a_whole_backup_is_left_or_nothing(
    shard: Shard, archive: Archive, lost: Lost, damage: Callable[[Archive, Lost], None]
) -> None:
    damage(archive, lost)
    whole, (loss,) = await shard.rebuild()
    assert not whole and loss.backup_id == lost.backup.id
    (name,) = archive.names(f"{lost.hurt}/backups")
    _flip(archive, f"{lost.hurt}/backups/{name}")
    whole, (loss,) = await shard.rebuild()
    assert not whole and (loss.at_ms, loss.backup_id) == (0, "")
    assert loss.said(accepted=False).endswith("; nothing that is whole is left of it")
    assert await shard.rebuild(accept_data_loss=True) == (True, [loss])
    async with shard.serving() as node:
        assert await node.run(HURT, "select count(*) from sqlite_master") == [[0]]
        assert (await node.backups.list(HURT)).backups == [lost.backup]


async def test_a_generation_that_leans_on_the_end_of_the_one_before_is_damaged_with_that(
    shard: Shard, archive: Archive, lost: Lost
) -> None:
    _begun_anew(archive, lost)
    base = segments.base_name(segments.end_before(lost.lost_at_ms))
    archive.put(f"{segments.folder(lost.hurt, 2, 0)}/{base}", b"")
    last = _objects(archive, lost)[-1]
    content = archive.get(last)
    _flip(archive, last)
    whole, (loss,) = await shard.rebuild()
    assert not whole and lost.told[-3][1] < loss.at_ms <= lost.told[-2][1]
    archive.put(last, content)
    assert await shard.rebuild() == (True, [])
    async with shard.serving() as node:
        assert await shard.number(node) == TICKS


async def test_an_archive_that_has_nothing_at_all_rebuilds_nothing(tmp_path: Path, engine: Engine, lost: Lost) -> None:
    shard = Shard(tmp_path / "shard", engine, DirectoryArchive(tmp_path / "another", "store"), lost)
    whole, losses = await shard.rebuild()
    assert not whole and [loss.database.name for loss in losses] == ["HURT", "WHOLE"]
    assert shard.there() == []


async def test_a_name_that_the_history_gives_to_nothing_may_be_that_of_the_newest_segment(
    shard: Shard, archive: Archive, lost: Lost
) -> None:
    last = _objects(archive, lost)[-1]
    archive.put(f"{last}.copied", archive.get(last))
    archive.remove(last)
    whole, (loss,) = await shard.rebuild()
    assert not whole and f"{last.rpartition('/')[2]}.copied is no object" in loss.problem
    archive.put(last, archive.get(f"{last}.copied"))
    archive.remove(f"{last}.copied")
    assert await shard.rebuild() == (True, [])


class _AwayArchive(DirectoryArchive):
    """An archive that fails for one object."""

    away = ""

    def get(self, name: str) -> bytes:
        if name == self.away:
            raise StoreUnavailable(retry_after_ms=1_000)
        return super().get(name)


async def test_an_archive_that_is_away_is_no_damage(tmp_path: Path, engine: Engine, lost: Lost) -> None:
    shutil.copytree(lost.root, tmp_path / "archive")
    archive = _AwayArchive(tmp_path / "archive", "store")
    archive.away = _objects(archive, lost)[-1]
    shard = Shard(tmp_path / "shard", engine, archive, lost)
    with pytest.raises(StoreUnavailable):
        await shard.rebuild(accept_data_loss=True)
    archive.away = ""
    assert await shard.rebuild() == (True, [])
    assert shard.there() == ["HURT", "WHOLE"]
