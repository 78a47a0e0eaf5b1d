import asyncio
import threading

import apsw
import pytest

from tovuk_kit.errors import StoreUnavailable
from tovuk_kit.migrations import Migration
from tovuk_kit.sqlite import FileInUse, SqliteFile

SCHEMA = Migration(1, "item", "CREATE TABLE item (k TEXT PRIMARY KEY, v BIGINT NOT NULL)", "DROP TABLE item")


@pytest.fixture
async def file(tmp_path):
    file = SqliteFile.open(tmp_path / "made" / "for-it" / "a.db", migrations=[SCHEMA])
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
    pragmas = await file.write(lambda c: (c.pragma("journal_mode"), c.pragma("synchronous"), c.pragma("mmap_size")))
    assert pragmas == ("wal", 2, 0)


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


async def test_a_second_opener_is_refused(file):
    with pytest.raises(FileInUse):
        SqliteFile.open(file.path)


async def test_a_closed_file_can_be_opened_again_and_has_everything(tmp_path):
    file = SqliteFile.open(tmp_path / "a.db", migrations=[SCHEMA])
    written = [asyncio.ensure_future(file.write(lambda c, n=n: put(c, f"k{n}", n))) for n in range(500)]
    await asyncio.sleep(0)
    await file.close()
    assert await asyncio.gather(*written) == list(range(500))
    again = SqliteFile.open(tmp_path / "a.db", migrations=[SCHEMA])
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


async def test_a_reader_cannot_write(file):
    await file.write(lambda c: put(c, "a", 1))
    with pytest.raises(StoreUnavailable) as refused:
        file.read(lambda c: c.execute("DELETE FROM item"))
    assert isinstance(refused.value.__cause__, apsw.ReadOnlyError)
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


async def test_a_path_that_is_no_database_is_an_unavailable_store(tmp_path):
    (tmp_path / "a.db").write_bytes(b"this is a text, and a long one, not a database" * 100)
    with pytest.raises(StoreUnavailable):
        SqliteFile.open(tmp_path / "a.db")
    (tmp_path / "a.db").unlink()
    again = SqliteFile.open(tmp_path / "a.db")
    await again.close()
