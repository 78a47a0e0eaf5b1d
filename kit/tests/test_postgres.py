"""What only PostgreSQL can do wrong: lose the connection, before a COMMIT or under it."""

import asyncio

import psycopg
import pytest

from tovuk_kit.errors import Outcome, StoreUnavailable
from tovuk_kit.postgres import PostgresDatabase


@pytest.fixture
async def db(postgres_url):
    db = await PostgresDatabase.open(postgres_url)
    await db.write(lambda tx: tx.execute("CREATE TABLE item (k TEXT PRIMARY KEY)"))
    yield db
    await db.close()


@pytest.fixture
def admin(postgres_url):
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield connection


def end_others(admin):
    admin.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )


def put(tx, k):
    tx.execute("INSERT INTO item VALUES (?)", (k,))


def items(admin):
    return [k for (k,) in admin.execute("SELECT k FROM item ORDER BY k")]


async def test_lost_connections_of_the_pool_are_replaced(db, admin):
    await asyncio.gather(*(db.write(lambda tx, n=n: put(tx, f"{n}")) for n in range(8)))
    end_others(admin)
    await asyncio.gather(*(db.write(lambda tx, n=n: put(tx, f"{n}")) for n in range(8, 16)))
    assert len(items(admin)) == 16


async def test_a_connection_lost_before_the_commit_is_tried_again(db, admin):
    runs = []

    def lose_once(tx):
        put(tx, "a")
        runs.append(1)
        if len(runs) == 1:
            end_others(admin)
            tx.execute("SELECT 1")

    await db.write(lose_once)
    assert (len(runs), items(admin)) == (2, ["a"])


async def test_a_connection_lost_at_the_commit_has_an_unknown_outcome_and_is_not_tried_again(db, admin):
    runs = []

    def lose_then_commit(tx):
        runs.append(1)
        put(tx, "a")
        end_others(admin)

    with pytest.raises(StoreUnavailable) as failure:
        await db.write(lose_then_commit)
    assert failure.value.outcome is Outcome.UNKNOWN
    assert len(runs) == 1
    await db.write(lambda tx: put(tx, "b"))
    assert items(admin) == ["b"]


async def test_a_serialization_failure_is_tried_again(db, admin):
    runs = []

    def clash(tx):
        runs.append(1)
        if len(runs) < 3:
            tx.execute("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40001'; END $$")
        put(tx, "a")

    await db.write(clash)
    assert (len(runs), items(admin)) == (3, ["a"])


async def test_a_commit_waits_for_the_disk_whatever_the_server_says(db, admin, postgres_url):
    name = admin.execute("SELECT current_database()").fetchone()[0]
    admin.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    again = await PostgresDatabase.open(postgres_url)
    assert await again.read(lambda tx: tx.execute("SHOW synchronous_commit")) == [("on",)]
    await again.close()


async def test_a_full_disk_is_named(db):
    from tovuk_kit.errors import StorageFull

    with pytest.raises(StorageFull):
        await db.write(lambda tx: tx.execute("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '53100'; END $$"))
