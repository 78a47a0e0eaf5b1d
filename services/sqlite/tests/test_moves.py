"""The side of a move that takes a database in. Whole moves, between two processes, are in tests/sqlite."""

import asyncio
import contextlib
import hashlib
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlite_node import Node, sqlite_node, until

from tovuk_kit.client import Channel
from tovuk_kit.clock import SystemClock
from tovuk_kit.errors import StoreUnavailable
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


@pytest.fixture(params=["stock"])
def engine_name(request: pytest.FixtureRequest) -> str:
    """What comes in does not depend on the engine."""
    name: str = request.param
    return name


@contextlib.asynccontextmanager
async def moves_of(node: Node) -> AsyncIterator[Moves]:
    """Of a shard whose control is nowhere: nobody asks it before a database is complete."""
    control = Channel("unix:/nowhere", "key", "control")
    claims = ControlShard(control, shard="here", address="", store="", lock="", holder="")
    yield Moves(
        node.catalog,
        node.files,
        node.usage,
        node.databases.directory,
        node.gates,
        node.backups,
        node.meters,
        ControlMoves(control, "here"),
        Ownership(claims, SystemClock(), lasts_ms=1_000),
        lambda address: OtherShard(address, "key"),
        node.archive,
        node.data_dir,
    )
    await control.close()


@pytest.fixture
async def moves(node: Node) -> AsyncIterator[Moves]:
    async with moves_of(node) as made:
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
    tmp_path: Path, engine: Engine
) -> None:
    archive = SlowArchive(tmp_path / "archive", "store")
    async with sqlite_node(tmp_path, engine, archive=archive) as node, moves_of(node) as moves:
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
