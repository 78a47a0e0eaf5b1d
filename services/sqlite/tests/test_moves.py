"""The side of a move that takes a database in. Whole moves, between two processes, are in tests/sqlite."""

# ruff: noqa: N802  # the wire names the methods

import asyncio
import contextlib
import hashlib
import threading
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlite_node import Node, sqlite_node, until

from tovuk.control.v1 import control_pb2 as wire
from tovuk.control.v1.control_pb2_grpc import ShardsServicer, add_ShardsServicer_to_server
from tovuk_kit.client import Channel
from tovuk_kit.clock import FakeClock
from tovuk_kit.errors import StoreUnavailable
from tovuk_kit.server import start_server
from tovuk_sqlite.clients.control import ControlMoves, ControlShard
from tovuk_sqlite.clients.shard import OtherShard
from tovuk_sqlite.moves import Moves
from tovuk_sqlite.ownership import Ownership
from tovuk_sqlite.store.backups import Kept
from tovuk_sqlite.store.base import Database, Engine
from tovuk_sqlite.store.catalog import State
from tovuk_sqlite.store.directory_archive import DirectoryArchive

_COMING = Database("sqlite_0123456789abcdef0123", "DB", "service", "account", 0, 2)
_OBJECT = b"an object"
#: In which no ownership ends.
_STANDING = FakeClock()


@pytest.fixture(params=["stock"])
def engine_name(request: pytest.FixtureRequest) -> str:
    """What comes in does not depend on the engine."""
    name: str = request.param
    return name


class Control(ShardsServicer):
    """A control at which databases lie at a shard, or elsewhere."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.placed: list[Database] = []

    async def ClaimShard(self, request: wire.ClaimShardRequest, context: Any) -> wire.ClaimShardReply:
        return wire.ClaimShardReply(owned=True, fencing=1, renewals=1, lasts_ms=request.lasts_ms)

    async def ListShardDatabases(
        self, request: wire.ListShardDatabasesRequest, context: Any
    ) -> wire.ListShardDatabasesReply:
        return wire.ListShardDatabasesReply(databases=[wire.PlacedDatabase(id=one.id) for one in self.placed])

    async def ListMoves(self, request: wire.ListMovesRequest, context: Any) -> wire.ListMovesReply:
        return wire.ListMovesReply(
            moves=[wire.Move(database_id=one.id, to="elsewhere", address="unix:/nowhere") for one in self.placed]
        )

    async def LocateDatabase(self, request: wire.LocateDatabaseRequest, context: Any) -> wire.Placement:
        return wire.Placement(shard="here" if self.placed else "elsewhere")


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Control]:
    control = Control(f"unix:{tmp_path}/control.sock")
    services = [partial(add_ShardsServicer_to_server, control)]
    server = await start_server(control.target, internal_key="key", services=services)
    yield control
    await server.stop()


@contextlib.asynccontextmanager
async def moves_of(node: Node, control: Control, shard: str = "here") -> AsyncIterator[Moves]:
    """Of a shard."""
    channel = Channel(control.target, "key", "control")
    claims = ControlShard(channel, shard=shard, address="", store="", lock="", holder="")
    ownership = Ownership(claims, _STANDING, lasts_ms=1_000)
    await ownership.claim()
    yield Moves(
        node.catalog,
        node.files,
        node.usage,
        node.databases.directory,
        node.gates,
        node.backups,
        node.meters,
        ControlMoves(channel, shard),
        ownership,
        lambda address: OtherShard(address, "key"),
        node.archive,
        node.data_dir,
    )
    await channel.close()


@pytest.fixture
async def moves(node: Node, control: Control) -> AsyncIterator[Moves]:
    async with moves_of(node, control) as made:
        yield made


class SlowArchive(DirectoryArchive):
    """An archive that takes its time."""

    def __init__(self, root: Path, store_id: str) -> None:
        super().__init__(root, store_id)
        self.asked, self.go_on = threading.Event(), threading.Event()

    def put_file(self, name: str, path: Path) -> None:
        content = path.read_bytes()
        self.asked.set()
        self.go_on.wait(30)
        self.put(name, content)


async def _pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def _put(moves: Moves, attempt: str, name: str, content: bytes = _OBJECT) -> None:
    sha256 = hashlib.sha256(_OBJECT).hexdigest()
    await moves.put(_COMING, attempt, name, len(_OBJECT), sha256, _pieces(content[:3], content[3:]))


async def test_whether_both_shards_have_one_archive_is_seen_in_it(node: Node, moves: Moves) -> None:
    assert not await moves.begin(_COMING, "first", "probe/1")
    node.archive.put(f"{_COMING.id}/probe/2", b"")
    assert await moves.begin(_COMING, "second", "probe/2")


async def test_an_archive_that_has_other_objects_of_a_database_does_not_take_it(node: Node, moves: Moves) -> None:
    node.archive.put(f"{_COMING.id}/backups/other", _OBJECT)
    with pytest.raises(StoreUnavailable):
        await moves.begin(_COMING, "first", "probe/1")
    assert node.catalog.state(_COMING.id) is None
    assert node.archive.get(f"{_COMING.id}/backups/other") == _OBJECT


async def test_what_an_attempt_sent_is_not_missing_in_the_next(node: Node, moves: Moves) -> None:
    await moves.begin(_COMING, "first", "probe/1")
    assert await moves.missing(_COMING, "first", "backups", ["a", "b"]) == ["a", "b"]
    await _put(moves, "first", "backups/a")
    await moves.begin(_COMING, "second", "probe/2")
    assert await moves.missing(_COMING, "second", "backups", ["a", "b"]) == ["b"]
    assert node.archive.get(f"{_COMING.id}/backups/a") == _OBJECT


async def test_an_object_that_is_not_what_was_sent_is_not_kept(node: Node, moves: Moves) -> None:
    await moves.begin(_COMING, "first", "probe/1")
    for wrong in (b"another", _OBJECT[:-1], b""):
        with pytest.raises(StoreUnavailable):
            await _put(moves, "first", "backups/a", wrong)
    assert node.archive.names(_COMING.id) == []
    assert list((node.data_dir / "moving").iterdir()) == []


async def test_nothing_is_taken_of_an_attempt_that_is_void(node: Node, moves: Moves) -> None:
    await moves.begin(_COMING, "first", "probe/1")
    await moves.begin(_COMING, "second", "probe/2")
    with pytest.raises(StoreUnavailable):
        await moves.missing(_COMING, "first", "backups", ["a"])
    with pytest.raises(StoreUnavailable):
        await _put(moves, "first", "backups/a")
    with pytest.raises(StoreUnavailable):
        await moves.complete(_COMING, "first", 4096, Kept([], [], {}))
    assert node.catalog.state(_COMING.id) is State.COMING


async def test_what_is_removed_is_removed_after_what_a_caller_that_left_had_sent(
    tmp_path: Path, engine: Engine, control: Control
) -> None:
    archive = SlowArchive(tmp_path / "archive", "store")
    async with (
        sqlite_node(tmp_path, engine, archive=archive) as node,
        moves_of(node, control) as moves,
    ):
        await moves.begin(_COMING, "first", "probe/1")
        sending = asyncio.create_task(_put(moves, "first", "backups/a"))
        await asyncio.to_thread(archive.asked.wait, 30)
        sending.cancel()
        await asyncio.wait([sending])
        await node.catalog.give_up(_COMING)
        await moves.settle_all()
        assert node.catalog.state(_COMING.id) is State.GONE
        archive.go_on.set()
        await until(lambda: archive.names(_COMING.id) != [])
        while node.catalog.state(_COMING.id) is not None:
            await moves.settle_all()
        assert archive.names(_COMING.id) == []


async def test_a_database_does_not_come_back_before_the_shard_has_let_go_of_it(node: Node, moves: Moves) -> None:
    await node.catalog.create(_COMING, 4096)
    for state in (State.LIVE, State.LEAVING, State.GONE):
        assert node.catalog.state(_COMING.id) is state
        with pytest.raises(StoreUnavailable):
            await moves.begin(_COMING, "first", "probe/1")
        if state is State.LIVE:
            await node.catalog.leave(_COMING, with_archive=True)
        else:
            await node.catalog.depart(_COMING, [])
    await moves.settle_all()
    assert not await moves.begin(_COMING, "first", "probe/1")


class DyingArchive(DirectoryArchive):
    """An archive whose user dies before one of its changes."""

    changes_left = -1

    def put(self, name: str, content: bytes) -> None:
        self._live()
        super().put(name, content)

    def put_file(self, name: str, path: Path) -> None:
        self._live()
        super().put_file(name, path)

    def remove(self, name: str) -> None:
        self._live()
        super().remove(name)

    def remove_folder(self, folder: str) -> None:
        self._live()
        super().remove_folder(folder)

    def _live(self) -> None:
        if self.changes_left == 0:
            raise _Death
        self.changes_left -= 1


class _Death(Exception):
    """The process is killed."""


def _left(archive: DirectoryArchive) -> list[str]:
    """What is there of the database, and the notes."""
    return [*archive.names(f"{_COMING.id}/backups"), *archive.names("coming")]


async def _come(archive: DirectoryArchive, folder: Path, engine: Engine, control: Control, objects: int) -> None:
    """A database comes to a new folder, which is lost then."""
    async with sqlite_node(folder, engine, archive=archive) as node, moves_of(node, control) as moves:
        with contextlib.suppress(_Death):
            assert not await moves.begin(_COMING, "first", "probe/1")
            for number in range(objects):
                await _put(moves, "first", f"backups/{number}")


async def test_what_a_lost_folder_has_left_of_a_coming_database_is_removed_whenever_it_was_lost(
    tmp_path: Path, engine: Engine, control: Control
) -> None:
    left = []
    for changes in range(6):
        archive = DyingArchive(tmp_path / f"archive-{changes}", "store")
        archive.changes_left = changes
        await _come(archive, tmp_path / f"lost-{changes}", engine, control, 2)
        left.append(_left(archive))
        deaths, archive.changes_left = 0, 0
        while _left(archive):
            folder = tmp_path / f"rebuilt-{changes}-{deaths}"
            async with (
                sqlite_node(folder, engine, archive=archive) as node,
                moves_of(node, control) as moves,
            ):
                with contextlib.suppress(_Death):
                    await moves.settle_all()
            deaths += 1
            archive.changes_left = deaths
            assert deaths < 6
    note = f"{_COMING.id}-here"
    assert left[:5] == [[], [f"{note}.claim"], [note, f"{note}.claim"], ["0", note, f"{note}.claim"], left[4]]
    assert left[4] == left[5] == ["0", "1", note, f"{note}.claim"]


async def test_a_database_comes_again_after_the_folder_that_it_came_to_is_lost(
    tmp_path: Path, engine: Engine, control: Control
) -> None:
    archive = DirectoryArchive(tmp_path / "archive", "store")
    await _come(archive, tmp_path / "lost", engine, control, 1)
    async with (
        sqlite_node(tmp_path / "rebuilt", engine, archive=archive) as node,
        moves_of(node, control) as moves,
    ):
        assert not await moves.begin(_COMING, "second", "probe/2")
        assert await moves.missing(_COMING, "second", "backups", ["0"]) == ["0"]


async def test_objects_of_a_database_that_lies_here_stay(tmp_path: Path, node: Node, moves: Moves) -> None:
    await moves.begin(_COMING, "first", "probe/1")
    await _put(moves, "first", "backups/a")
    await node.catalog.arrive(_COMING, 4096)
    await node.catalog.stay(_COMING, State.ARRIVING)
    await moves.settle_all()
    assert _left(DirectoryArchive(tmp_path / "archive", "another")) == ["a"]


async def test_a_database_that_leaves_is_not_noted_as_coming_here_before_its_objects_may_be_anothers(
    tmp_path: Path, control: Control, node: Node, moves: Moves
) -> None:
    await moves.begin(_COMING, "first", "probe/1")
    await _put(moves, "first", "backups/a")
    await node.catalog.arrive(_COMING, 4096)
    await node.catalog.stay(_COMING, State.ARRIVING)
    control.placed = [_COMING]
    await moves.depart()
    assert _left(DirectoryArchive(tmp_path / "archive", "another")) == ["a"]


async def test_objects_of_a_database_that_control_places_here_stay_whatever_the_folder_knows(
    tmp_path: Path, engine: Engine, control: Control
) -> None:
    archive = DirectoryArchive(tmp_path / "archive", "store")
    await _come(archive, tmp_path / "lost", engine, control, 1)
    control.placed = [_COMING]
    async with (
        sqlite_node(tmp_path / "old", engine, archive=archive) as node,
        moves_of(node, control) as moves,
    ):
        await moves.settle_all()
    assert _left(archive) == ["0"]


async def test_a_database_comes_to_one_of_two_shards_that_share_an_archive(
    tmp_path: Path, engine: Engine, control: Control
) -> None:
    archive = DirectoryArchive(tmp_path / "archive", "store")
    await _come(archive, tmp_path / "first", engine, control, 1)
    async with (
        sqlite_node(tmp_path / "second", engine, archive=archive) as node,
        moves_of(node, control, "there") as moves,
    ):
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await moves.begin(_COMING, "second", "probe/2")
        await moves.settle_all()
        assert _left(archive) == ["0", f"{_COMING.id}-here", f"{_COMING.id}-here.claim"]


class ClaimedArchive(DirectoryArchive):
    """An archive in which another shard claims what is claimed, at the same time."""

    def put(self, name: str, content: bytes) -> None:
        super().put(name, content)
        if name.endswith("-here.claim"):
            super().put(name.replace("-here", "-there"), b"")
            super().put(name.replace("-here.claim", "-there"), b"")
            super().put(f"{_COMING.id}/backups/of-there", _OBJECT)


async def test_of_two_shards_that_claim_a_database_at_once_one_removes_nothing_of_the_others(
    tmp_path: Path, engine: Engine, control: Control
) -> None:
    archive = ClaimedArchive(tmp_path / "archive", "store")
    async with (
        sqlite_node(tmp_path / "node", engine, archive=archive) as node,
        moves_of(node, control) as moves,
    ):
        with pytest.raises(StoreUnavailable):
            await moves.begin(_COMING, "first", "probe/1")
        assert node.catalog.state(_COMING.id) is None
        await moves.settle_all()
    assert _left(archive) == ["of-there", f"{_COMING.id}-there", f"{_COMING.id}-there.claim"]
