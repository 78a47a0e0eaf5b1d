import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from tovuk_sqlite.directory import Directory, Target
from tovuk_sqlite.errors import DatabaseNotFound
from tovuk_sqlite.store.base import Database, Engine
from tovuk_sqlite.store.catalog import SqliteCatalog, State

_DATABASE = Database("sqlite_1", "DB", "service_1", "account_1", 0)
_TARGET = Target("account_1", "service_1", "DB")


@pytest_asyncio.fixture
async def catalog(tmp_path: Path, engine: Engine) -> AsyncIterator[SqliteCatalog]:
    opened = await SqliteCatalog.open(tmp_path, engine.library)
    await opened.create(_DATABASE, 4096)
    yield opened
    await opened.close()


async def test_who_asks_for_a_database_that_is_held_is_told_how_it_is_afterwards(catalog: SqliteCatalog) -> None:
    directory = Directory(catalog)
    assert await directory.resolve(_TARGET) == _DATABASE
    async with directory.held(_DATABASE):
        assert directory.known(_TARGET) is None
        asking = asyncio.ensure_future(directory.resolve(_TARGET))
        await asyncio.sleep(0)
        assert not asking.done()
        await catalog.leave(_DATABASE, with_archive=False)
    with pytest.raises(DatabaseNotFound):
        await asking


async def test_a_database_that_arrived_is_found_once_it_is_settled(catalog: SqliteCatalog) -> None:
    arrived = replace(_DATABASE, id="sqlite_2", name="NEW", generation=2)
    await catalog.come(arrived, with_archive=False)
    await catalog.arrive(arrived, 4096)
    directory = Directory(catalog)
    with pytest.raises(DatabaseNotFound):
        await directory.resolve(_TARGET._replace(ref="NEW"))
    asked = []

    async def settle(service_id: str) -> None:
        asked.append(service_id)
        await catalog.stay(arrived, State.ARRIVING)

    directory.settle = settle
    assert await directory.resolve(_TARGET._replace(ref="NEW")) == arrived
    assert asked == ["service_1"]
