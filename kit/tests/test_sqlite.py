import asyncio
import threading

import pytest

from tovuk_kit.errors import StoreUnavailable
from tovuk_kit.migrations import Migration
from tovuk_kit.sqlite import FileInUse, SqliteFile, SqliteTooOld
from tovuk_kit.sqlite_errors import Failure

SCHEMA = Migration(1, "item", "CREATE TABLE item (k TEXT PRIMARY KEY, v BIGINT NOT NULL)", "DROP TABLE item")


@pytest.fixture
async def file(tmp_path, library):
    file = SqliteFile.open(tmp_path / "made" / "for-it" / "a.db", library, migrations=[SCHEMA])
    yield file
    await file.close()


def put(connection, k, v):
    connection.execute("INSERT INTO item VALUES (?, ?) ON CONFLICT DO UPDATE SET v = excluded.v", (k, v))
    return v


def get(connection, k="a"):
    return connection.execute("SELECT v FROM item WHERE k = ?", (k,)).get


async def test_a_write_returns_its_result_and_is_read_at_once(file):
    assert await file.write(lambda c: put(c, "a", 1)) == 1
    assert file.read(get) == 1
    assert await file.read_in_thread(get) == 1


async def test_commits_are_synced_and_the_file_is_not_mapped(file):
    def setting(connection, name):
        return connection.execute(f"PRAGMA {name}").get

    names = ("journal_mode", "synchronous", "mmap_size")
    # A library that maps no files has no such setting.
    assert await file.write(lambda c: [setting(c, name) or 0 for name in names]) == ["wal", 2, 0]


async def test_a_submitted_work_answers_on_the_event_loop(file):
    answered = asyncio.get_running_loop().create_future()
    file.submit(lambda c: put(c, "a", 1), lambda result: answered.set_result((result, threading.current_thread())))
    assert await answered == (1, threading.main_thread())


async def test_a_failing_callback_does_not_keep_the_answers_of_others(file):
    answered = asyncio.get_running_loop().create_future()
    file.submit(lambda c: put(c, "a", 1), lambda result: 1 // 0)
    file.submit(lambda c: put(c, "b", 2), answered.set_result)
    assert await answered == 2


async def test_a_cancelled_caller_does_not_disturb_the_others(file):
    first = asyncio.create_task(file.write(lambda c: put(c, "a", 1)))
    await asyncio.sleep(0)
    first.cancel()
    assert await file.write(lambda c: put(c, "b", 2)) == 2
    assert file.read(get) == 1


async def test_a_second_opener_is_refused(file, library):
    with pytest.raises(FileInUse):
        SqliteFile.open(file.path, library)


async def test_a_closed_file_can_be_opened_again_and_has_everything(tmp_path, library):
    file = SqliteFile.open(tmp_path / "a.db", library, migrations=[SCHEMA])
    written = [asyncio.ensure_future(file.write(lambda c, n=n: put(c, f"k{n}", n))) for n in range(500)]
    await asyncio.sleep(0)
    await file.close()
    assert await asyncio.gather(*written) == list(range(500))
    again = SqliteFile.open(tmp_path / "a.db", library, migrations=[SCHEMA])
    assert again.read(lambda c: c.execute("SELECT count(*) FROM item").get) == 500
    await again.close()


async def test_a_closed_file_refuses(file):
    await file.close()
    with pytest.raises(StoreUnavailable):
        await file.write(get)
    with pytest.raises(StoreUnavailable):
        file.read(get)
    with pytest.raises(StoreUnavailable):
        await file.read_in_thread(get)


async def test_a_reader_sees_one_snapshot_and_never_holds_a_writer_up(file):
    await file.write(lambda c: put(c, "a", 1))
    reading, written = threading.Event(), threading.Event()

    def read_twice(connection):
        before = get(connection)
        reading.set()
        assert written.wait(30)
        return before, get(connection)

    read = asyncio.create_task(file.read_in_thread(read_twice))
    await asyncio.to_thread(reading.wait, 30)
    await file.write(lambda c: put(c, "a", 2))
    written.set()
    assert await read == (1, 1)
    assert file.read(get) == 2


async def test_a_reader_cannot_write(file, library):
    await file.write(lambda c: put(c, "a", 1))
    with pytest.raises(StoreUnavailable) as refused:
        file.read(lambda c: c.execute("DELETE FROM item"))
    assert library.failure(refused.value.__cause__) is Failure.FAULT
    assert file.read(get) == 1


async def test_an_open_group_is_not_read(file):
    inside, go_on = threading.Event(), threading.Event()

    def put_slowly(connection):
        put(connection, "a", 1)
        inside.set()
        assert go_on.wait(30)

    writing = asyncio.create_task(file.write(put_slowly))
    await asyncio.to_thread(inside.wait, 30)
    assert file.read(get) is None
    go_on.set()
    await writing
    assert file.read(get) == 1


async def test_a_path_that_is_no_database_is_an_unavailable_store(tmp_path, library):
    (tmp_path / "a.db").write_bytes(b"this is a text, and a long one, not a database" * 100)
    with pytest.raises(StoreUnavailable):
        SqliteFile.open(tmp_path / "a.db", library)
    (tmp_path / "a.db").unlink()
    again = SqliteFile.open(tmp_path / "a.db", library)
    await again.close()


async def test_values_come_back_as_they_were(file):
    values = (None, -(2**63), 2.5, "ä\x00b", b"", b"\x00\xff")
    sql = f"SELECT {', '.join('?' * len(values))}"
    assert file.read(lambda c: c.execute(sql, values).fetchall()) == [values]


async def test_rows_are_taken_once(file):
    def take(connection):
        rows = connection.execute("SELECT value FROM json_each('[1, 2, 3]')")
        return rows.fetchone(), rows.fetchall(), rows.fetchone()

    assert file.read(take) == ((1,), [(2,), (3,)], None)
    assert file.read(lambda c: c.execute("SELECT 1 WHERE 0").get) is None


async def test_a_statement_tells_what_it_changed(file):
    def change(connection):
        before = connection.total_changes()
        connection.executemany("INSERT INTO item VALUES (?, ?)", [("a", 1), ("b", 2)])
        last = connection.last_insert_rowid()
        connection.execute("UPDATE item SET v = v + 1")
        return connection.changes(), connection.total_changes() - before, last

    assert await file.write(change) == (2, 4, 2)


async def test_what_is_wrong_with_a_statement_is_no_fault_of_the_store(file, library):
    for sql, params, failure in (
        ("SELEC 1", (), Failure.STATEMENT),
        ("INSERT INTO item VALUES (?, ?)", ("a",), Failure.STATEMENT),
        ("INSERT INTO item VALUES ('a', NULL)", (), Failure.CONSTRAINT),
    ):
        with pytest.raises(Exception) as raised:  # noqa: PT011 -- the library's own
            await file.write(lambda c, sql=sql, params=params: c.execute(sql, params))
        assert library.failure(raised.value) is failure
    assert library.failure(LookupError()) is None


async def test_a_migration_that_fails_leaves_nothing(tmp_path, library):
    broken = Migration(2, "broken", "CREATE TABLE other (k TEXT); INSERT INTO nowhere VALUES (1)", "")
    with pytest.raises(Exception) as raised:  # noqa: PT011 -- the library's own
        SqliteFile.open(tmp_path / "a.db", library, migrations=[SCHEMA, broken])
    assert library.failure(raised.value) is Failure.STATEMENT
    again = SqliteFile.open(tmp_path / "a.db", library)
    assert again.read(lambda c: c.execute("SELECT count(*) FROM sqlite_schema").get) == 0
    await again.close()


async def test_a_closed_file_is_whole_without_its_wal(file):
    await file.write(lambda c: put(c, "a", 1))
    await file.close()
    assert not file.path.with_name("a.db-wal").exists()


async def test_a_library_with_a_known_fault_is_refused(tmp_path, library, monkeypatch):
    monkeypatch.setattr(type(library), "version", "3.51.2")
    with pytest.raises(SqliteTooOld):
        SqliteFile.open(tmp_path / "a.db", library)
