"""The contract of a database, over both engines."""

import asyncio
import contextlib
import threading

import pytest

from tovuk_kit.database import ConstraintViolated
from tovuk_kit.engines import open_database
from tovuk_kit.errors import StoreUnavailable
from tovuk_kit.migrations import Migration

SCHEMA = Migration(
    1,
    "item",
    "CREATE TABLE item (k TEXT PRIMARY KEY, n BIGINT NOT NULL, x DOUBLE PRECISION, note TEXT);"
    "CREATE INDEX item_n ON item (n);",
    "DROP TABLE item;",
)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/a.db"
    return request.getfixturevalue("postgres_url")


@pytest.fixture
async def db(url):
    db = await open_database(url, [SCHEMA])
    yield db
    await db.close()


def put(tx, k, n=0):
    tx.execute("INSERT INTO item (k, n) VALUES (?, ?)", (k, n))


async def keys(db):
    return {k for (k,) in await db.read(lambda tx: tx.execute("SELECT k FROM item"))}


async def test_a_write_is_read_afterwards(db):
    await db.write(lambda tx: put(tx, "a", 1))
    assert await db.read(lambda tx: tx.execute("SELECT k, n, x, note FROM item")) == [("a", 1, None, None)]


async def test_values_come_back_as_they_went_in(db):
    values = ("100% ? 'quoted' ü \U0001f600", 2**63 - 1, 0.1, "")
    await db.write(lambda tx: tx.execute("INSERT INTO item VALUES (?, ?, ?, ?)", values))
    assert await db.read(lambda tx: tx.execute("SELECT * FROM item WHERE k = ?", values[:1])) == [values]


async def test_truth_is_stored_as_one_and_zero(db):
    await db.write(lambda tx: [put(tx, "a", True), put(tx, "b", False)])
    assert await db.read(lambda tx: tx.execute("SELECT n FROM item ORDER BY n")) == [(0,), (1,)]


async def test_sums_are_integers(db):
    await db.write(lambda tx: [put(tx, "a", 2**40), put(tx, "b", 2)])
    [(total, mean)] = await db.read(lambda tx: tx.execute("SELECT sum(n), sum(x) FROM item"))
    assert (total, mean) == (2**40 + 2, None)
    assert isinstance(total, int)


async def test_question_marks_and_percents_in_literals_are_no_placeholders(db):
    await db.write(lambda tx: put(tx, "a?b%"))
    found = await db.read(lambda tx: tx.execute("SELECT 'it''s ?', k FROM item WHERE k LIKE '%?b%' AND n = ?", (0,)))
    assert found == [("it's ?", "a?b%")]


async def test_upserts_and_returning_work_alike(db):
    def count(tx):
        return tx.execute(
            "INSERT INTO item (k, n) VALUES (?, 1) ON CONFLICT (k) DO UPDATE SET n = item.n + 1 RETURNING n", ("a",)
        )

    assert await db.write(lambda tx: [count(tx), count(tx)]) == [[(1,)], [(2,)]]


async def test_rowcount_tells_the_changed_rows(db):
    def change(tx):
        put(tx, "a")
        put(tx, "b")
        tx.execute("UPDATE item SET n = 5")
        updated = tx.rowcount
        tx.execute("DELETE FROM item WHERE k = ?", ("none",))
        return updated, tx.rowcount

    assert await db.write(change) == (2, 0)


async def test_a_work_that_raises_changes_nothing(db):
    def fail(tx):
        put(tx, "a")
        raise LookupError

    with pytest.raises(LookupError):
        await db.write(fail)
    assert await keys(db) == set()


async def test_a_broken_constraint_has_one_name_on_both_engines(db):
    await db.write(lambda tx: put(tx, "a"))
    with pytest.raises(ConstraintViolated):
        await db.write(lambda tx: [put(tx, "b"), put(tx, "a")])
    assert await keys(db) == {"a"}


async def test_a_failed_statement_is_not_forgiven(db):
    await db.write(lambda tx: put(tx, "a"))

    def hide(tx):
        put(tx, "b")
        try:
            put(tx, "a")
        except ConstraintViolated:
            return "hidden"

    with pytest.raises(ConstraintViolated):
        await db.write(hide)
    assert await keys(db) == {"a"}


async def test_counting_under_a_lock_loses_nothing(db):
    await db.write(lambda tx: put(tx, "a", 0))

    def increment(tx):
        tx.lock("counter")
        [(n,)] = tx.execute("SELECT n FROM item WHERE k = 'a'")
        tx.execute("UPDATE item SET n = ? WHERE k = 'a'", (n + 1,))

    await asyncio.gather(*(db.write(increment) for _ in range(100)))
    assert await db.read(lambda tx: tx.execute("SELECT n FROM item")) == [(100,)]


async def test_writes_that_deadlock_are_all_done_in_the_end(db):
    await db.write(lambda tx: [put(tx, "a"), put(tx, "b")])
    both = threading.Barrier(2)

    def cross(first, second):
        def work(tx):
            tx.execute("UPDATE item SET n = n + 1 WHERE k = ?", (first,))
            # Only one engine runs two writes at once; there they meet here, once.
            with contextlib.suppress(threading.BrokenBarrierError):
                both.wait(0.5)
            tx.execute("UPDATE item SET n = n + 1 WHERE k = ?", (second,))

        return work

    await asyncio.gather(db.write(cross("a", "b")), db.write(cross("b", "a")))
    assert await db.read(lambda tx: tx.execute("SELECT n FROM item")) == [(2,), (2,)]


async def test_a_read_has_one_snapshot(db):
    await db.write(lambda tx: put(tx, "a"))
    reading, written = threading.Event(), threading.Event()

    def read_twice(tx):
        before = tx.execute("SELECT count(*) FROM item")
        reading.set()
        assert written.wait(30)
        return before, tx.execute("SELECT count(*) FROM item")

    read = asyncio.create_task(db.read(read_twice))
    await asyncio.to_thread(reading.wait, 30)
    await db.write(lambda tx: put(tx, "b"))
    written.set()
    assert await read == ([(1,)], [(1,)])


async def test_a_read_cannot_write(db):
    with pytest.raises(Exception):  # noqa: B017, PT011 -- each engine in its own words
        await db.read(lambda tx: put(tx, "a"))
    assert await keys(db) == set()


async def test_everything_is_there_when_opened_again(url):
    db = await open_database(url, [SCHEMA])
    await db.write(lambda tx: put(tx, "a"))
    await db.close()
    again = await open_database(url, [SCHEMA])
    assert await keys(again) == {"a"}
    await again.close()


async def test_a_closed_database_refuses_and_closes_again(db):
    await db.close()
    with pytest.raises(StoreUnavailable):
        await db.write(lambda tx: put(tx, "a"))
    with pytest.raises(StoreUnavailable):
        await db.read(lambda tx: tx.execute("SELECT 1"))
    await db.close()
