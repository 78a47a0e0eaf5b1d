"""Control's nouns over both engines, with a clock that stands still."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tovuk_control.project.account import Accounts
from tovuk_control.project.activity import Activity
from tovuk_control.project.changes import Publish
from tovuk_control.project.page import Cursors
from tovuk_control.project.registry import Registry
from tovuk_control.project.service import Services
from tovuk_control.project.shards import Shards
from tovuk_control.project.token import Tokens
from tovuk_control.store.accounts import Account
from tovuk_control.store.shards import Shard
from tovuk_kit import migrations
from tovuk_kit.clock import FakeClock
from tovuk_kit.database import Database
from tovuk_kit.engines import open_database


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/control.db"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = await open_database(database_url, migrations.load("tovuk_control.store"))
    yield database
    await database.close()


@pytest_asyncio.fixture
async def second_database(database_url: str, database: Database) -> AsyncIterator[Database]:
    """What a second instance of control has: a pool of its own on PostgreSQL; SQLite serves one instance."""
    if database_url.startswith("sqlite"):
        yield database
        return
    second = await open_database(database_url, migrations.load("tovuk_control.store"))
    yield second
    await second.close()


@pytest_asyncio.fixture
async def contention(database: Database, database_url: str) -> None:
    """PostgreSQL's pool has opened all its connections, so that simultaneous calls meet in the database."""
    if database_url.startswith("postgresql"):
        pauses = (database.read(lambda tx: tx.execute("SELECT pg_sleep(0.2)")) for _ in range(8))
        await asyncio.gather(*pauses)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def cursors() -> Cursors:
    return Cursors(b"the internal key of the tests")


@pytest.fixture
def published() -> list[tuple[str, bytes]]:
    """The notices that were sent."""
    return []


@pytest.fixture
def publish(published: list[tuple[str, bytes]]) -> Publish:
    return lambda subject, payload: published.append((subject, payload))


@pytest.fixture
def plan_posted() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
def accounts(
    database: Database, clock: FakeClock, publish: Publish, cursors: Cursors, plan_posted: asyncio.Event
) -> Accounts:
    return Accounts(database, clock, publish, cursors, plan_posted.set)


@pytest.fixture
def tokens(database: Database, clock: FakeClock, publish: Publish) -> Tokens:
    return Tokens(database, clock, publish)


@pytest.fixture
def services(database: Database, clock: FakeClock, publish: Publish, cursors: Cursors) -> Services:
    return Services(database, clock, publish, cursors)


@pytest.fixture
def second_services(second_database: Database, clock: FakeClock, publish: Publish, cursors: Cursors) -> Services:
    return Services(second_database, clock, publish, cursors)


@pytest.fixture
def registry(database: Database, clock: FakeClock) -> Registry:
    return Registry(database, clock)


@pytest.fixture
def second_registry(second_database: Database, clock: FakeClock) -> Registry:
    return Registry(second_database, clock)


@pytest.fixture
def shards(database: Database, clock: FakeClock, publish: Publish) -> Shards:
    return Shards(database, clock, publish)


@pytest_asyncio.fixture
async def shard(shards: Shards) -> str:
    """The name of a shard that somebody has claimed."""
    await shards.claim(Shard("shard-1", "unix:/1", "folder-1", "lock-1", "process-1", 0, 0, 30_000, 0), (0, 0))
    return "shard-1"


@pytest.fixture
def activity(database: Database, clock: FakeClock, cursors: Cursors) -> Activity:
    return Activity(database, clock, cursors)


@pytest_asyncio.fixture
async def ada(accounts: Accounts, published: list[tuple[str, bytes]]) -> Account:
    """An account on the free plan."""
    account, _ = await accounts.create("ada", "Ada", "free")
    published.clear()
    return account


@pytest_asyncio.fixture
async def bob(accounts: Accounts, ada: Account, published: list[tuple[str, bytes]]) -> Account:
    """Another account, on the pro plan."""
    account, _ = await accounts.create("bob", "Bob", "pro")
    published.clear()
    return account
