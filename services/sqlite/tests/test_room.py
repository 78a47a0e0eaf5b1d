"""Room to grow: of one file by its plan, of all by the account's level."""

from typing import Any

import pytest

from tovuk_kit.errors import TovukError
from tovuk_sqlite.limits import DATABASE_BYTES_MAX, FIRST_ROOM_BYTES
from tovuk_sqlite.room import STORAGE, Room

ACCOUNT = "account"


@pytest.fixture
def engine_name() -> str:
    """No engine is asked anything here."""
    return "stock"


async def room_of(node: Any, *, allowance: int | None = None, plan: str = "free") -> Room:
    target = await node.create()
    if allowance is not None:
        await node.usage.set_allowance(ACCOUNT, STORAGE, 1, node.usage.account_bytes(ACCOUNT) + allowance)
    database = await node.databases.directory.resolve(target)
    return Room(node.usage, node.meters, database, plan)


async def test_room_is_at_hand_only_where_it_was_allowed_before(node: Any) -> None:
    room = await room_of(node)
    assert not room.begin_at_once()
    await room.begin()
    room.end()
    assert room.begin_at_once()


async def test_where_no_limit_binds_the_plans_bounds_the_file(node: Any) -> None:
    room = await room_of(node, plan="pro")
    await room.begin()
    assert room.bytes == room.file_bytes_max == DATABASE_BYTES_MAX["pro"]


async def test_what_one_holds_another_does_not(node: Any) -> None:
    room = await room_of(node, allowance=2 * FIRST_ROOM_BYTES)
    other = Room(node.usage, node.meters, room._database, "free")
    assert room.begin_at_once() and other.begin_at_once()
    third = Room(node.usage, node.meters, room._database, "free")
    assert not third.begin_at_once()
    room.end()
    assert third.begin_at_once()


async def test_a_file_at_its_plans_limit_is_full(node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATABASE_BYTES_MAX, "free", 4096)
    room = await room_of(node)
    await room.begin()
    with pytest.raises(TovukError) as raised:
        await room.grow()
    assert raised.value.code == "sqlite_database_full"
