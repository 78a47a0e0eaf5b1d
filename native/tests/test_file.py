"""The file: durable, copied while in use, checked, its WAL moved only when asked, read in bounded memory."""

import json
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tovuk_sqlite_native import Connection, Interrupt, SqliteError

FILL = (
    "with recursive n(i) as (select 1 union all select i + 1 from n where i < {rows})"
    " insert into t select i, hex(randomblob({half})) from n"
)


def fill(connection: Connection, rows: int, row_bytes: int = 200) -> None:
    connection.run([("create table t (id integer primary key, b text)", ())])
    connection.run([(FILL.format(rows=rows, half=row_bytes // 2), ())])


def count(connection: Connection) -> int:
    rows: list[list[int]] = json.loads(connection.run([("select count(*) from t", ())])[0].rows)
    return rows[0][0]


def test_a_copy_is_whole_and_of_one_moment_while_others_write(tenant: Connection, tmp_path: Path) -> None:
    fill(tenant, 20_000)
    tenant.run([("create table pairs (a int, b int)", ()), ("insert into pairs values (0, 0)", ())])
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            # Two statements of one transaction: a copy with only one of them would be torn.
            tenant.run([("update pairs set a = a + 1", ()), ("update pairs set b = b + 1", ())])

    thread = threading.Thread(target=write)
    thread.start()
    pages = tenant.backup(str(tmp_path / "copy.db"), pages_per_step=64, pause_ms=1)
    done.set()
    thread.join(20)
    assert (tmp_path / "copy.db").stat().st_size == pages * 4096
    copy = Connection(str(tmp_path / "copy.db"))
    assert copy.integrity_check() == []
    ((a, b),) = json.loads(copy.run([("select a, b from pairs", ())])[0].rows)
    assert (a == b, a > 0, count(copy)) == (True, True, 20_000)
    copy.close()


def test_what_is_not_committed_is_not_copied(tenant: Connection, tmp_path: Path) -> None:
    fill(tenant, 100)
    tenant.begin()
    tenant.run([("delete from t", ())])
    copying = threading.Thread(target=tenant.backup, args=(str(tmp_path / "copy.db"),))
    copying.start()
    tenant.run([("select 1", ())])
    tenant.rollback()
    copying.join(20)
    copy = Connection(str(tmp_path / "copy.db"))
    assert count(copy) == 100
    copy.close()


def test_an_interrupted_copy_leaves_no_file(tenant: Connection, tmp_path: Path) -> None:
    fill(tenant, 1_000)
    interrupt = Interrupt()
    interrupt.set()
    with pytest.raises(SqliteError) as ended:
        tenant.backup(str(tmp_path / "copy.db"), interrupt=interrupt)
    assert ended.value.kind == "interrupted"
    assert not (tmp_path / "copy.db").exists()


def test_an_existing_file_is_never_overwritten_by_a_copy(tenant: Connection, tmp_path: Path) -> None:
    fill(tenant, 10)
    (tmp_path / "copy.db").write_text("precious")
    with pytest.raises(SqliteError):
        tenant.backup(str(tmp_path / "copy.db"))
    assert (tmp_path / "copy.db").read_text() == "precious"


def test_damage_is_found(tenant: Connection, tmp_path: Path) -> None:
    fill(tenant, 2_000)
    tenant.run([("create index b on t (b)", ())])
    tenant.backup(str(tmp_path / "copy.db"))
    whole = bytearray((tmp_path / "copy.db").read_bytes())
    whole[4096 * 20 : 4096 * 21] = bytes(4096)
    (tmp_path / "copy.db").write_bytes(whole)
    copy = Connection(str(tmp_path / "copy.db"))
    try:
        problems = copy.integrity_check()
    except SqliteError as error:
        problems = [error.kind]
    assert problems
    copy.close()


def test_a_missing_or_foreign_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SqliteError) as missing:
        Connection(str(tmp_path / "missing.db"))
    assert (missing.value.kind, list(tmp_path.iterdir())) == ("io", [])
    (tmp_path / "foreign.db").write_bytes(b"not a database, " * 1_000)
    with pytest.raises(SqliteError) as foreign:
        Connection(str(tmp_path / "foreign.db"))
    assert foreign.value.kind == "corrupt"


def test_frames_stay_in_the_wal_until_they_are_moved(tenant: Connection, tmp_path: Path) -> None:
    fill(tenant, 20_000)
    frames = tenant.wal_frames
    assert frames > 1_000  # beyond where SQLite would move them by itself
    assert (tmp_path / "tenant.db-wal").stat().st_size == 32 + frames * (24 + 4096)
    assert tenant.checkpoint() == (frames, frames)
    assert tenant.checkpoint("truncate") == (0, 0)
    assert (tmp_path / "tenant.db-wal").stat().st_size == 0
    tenant.run([("delete from t where id = 1", ())])
    assert 0 < tenant.wal_frames < 10
    tenant.close()
    assert (tmp_path / "tenant.db-wal").stat().st_size > 0
    again = Connection(str(tmp_path / "tenant.db"))
    assert count(again) == 19_999
    again.close()


def test_a_moved_frame_waits_for_readers(tenant: Connection, tmp_path: Path) -> None:
    fill(tenant, 10)
    reader = Connection(str(tmp_path / "tenant.db"), readonly=True)
    reader.run([("select * from t", ())], page_rows_max=2, resumable=True)
    tenant.run([("delete from t", ())])
    quick = Connection(str(tmp_path / "tenant.db"), busy_timeout_ms=10)
    with pytest.raises(SqliteError) as busy:
        quick.checkpoint("truncate")
    assert busy.value.kind == "busy"
    reader.close_cursor()
    assert quick.checkpoint("truncate") == (0, 0)
    reader.close()
    quick.close()


def test_storage_is_that_of_the_open_transaction(tenant: Connection) -> None:
    before = tenant.storage_bytes
    tenant.begin()
    fill(tenant, 1_000)
    assert tenant.storage_bytes > before + 200_000
    tenant.rollback()
    assert tenant.storage_bytes == before


def test_free_pages_can_be_given_back(tenant: Connection) -> None:
    fill(tenant, 5_000)
    full = tenant.storage_bytes
    tenant.run([("delete from t", ())])
    tenant.run([("pragma incremental_vacuum(100)", ())], trusted=True)
    assert tenant.storage_bytes == full - 100 * 4096


def test_it_is_an_ordinary_file_to_any_sqlite(tenant: Connection, tmp_path: Path) -> None:
    fill(tenant, 100)
    tenant.checkpoint("truncate")
    tenant.close()
    plain = sqlite3.connect(tmp_path / "tenant.db")
    assert plain.execute("select count(*) from t").fetchone() == (100,)
    assert plain.execute("pragma integrity_check").fetchone() == ("ok",)
    plain.close()


WRITER = """
import sys
from tovuk_sqlite_native import Connection
connection = Connection(sys.argv[1])
n = 0
while True:
    connection.begin()
    for _ in range(5):
        n += 1
        connection.run([("insert into t (b) values (?)", (str(n),)), ("update total set n = n + 1", ())])
    connection.commit()
    print(n, flush=True)
"""


@pytest.mark.parametrize("turn", range(3))
def test_what_was_committed_outlives_the_process(tenant: Connection, tmp_path: Path, turn: int) -> None:
    tenant.run(
        [
            ("create table t (id integer primary key, b text)", ()),
            ("create table total (n int)", ()),
            ("insert into total values (0)", ()),
        ]
    )
    tenant.close()
    path = str(tmp_path / "tenant.db")
    with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        acknowledged = 0
        until = time.monotonic() + 0.2 * (turn + 1)
        while time.monotonic() < until:
            acknowledged = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        acknowledged = max([acknowledged, *map(int, writer.stdout.read().split())])
    after = Connection(path)
    ((rows, total),) = json.loads(after.run([("select (select count(*) from t), n from total", ())])[0].rows)
    assert rows == total
    assert rows % 5 == 0
    assert acknowledged <= rows <= acknowledged + 5
    assert after.integrity_check() == []
    after.close()


READER = """
import json, resource, sys
from tovuk_sqlite_native import Connection
reader = Connection(sys.argv[1], readonly=True, temp_bytes_max=8 << 30)
began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
(page,) = reader.run([("select * from t", ())], resumable=True)
rows, size = page.row_count, len(page.rows)
while not page.complete:
    page = reader.next_page()
    rows, size = rows + page.row_count, size + len(page.rows)
reader.run([("select b from t order by b", ())], page_rows_max=10, resumable=True)
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - began
print(json.dumps([rows, size, grown]))
"""


def test_a_large_table_is_read_in_bounded_memory(
    tenant: Connection, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """2 GB in the long form, a tenth otherwise: told page by page, and sorted with the help of temporary files."""
    rows, row_bytes = (100_000, 20_000) if pytestconfig.getoption("full") else (10_000, 20_000)
    fill(tenant, rows, row_bytes)
    tenant.checkpoint("truncate")
    reader = subprocess.run(
        [sys.executable, "-c", READER, str(tmp_path / "tenant.db")], stdout=subprocess.PIPE, check=True, timeout=200
    )
    told, size, grown_kib = json.loads(reader.stdout)
    assert (told, size > rows * row_bytes) == (rows, True)
    assert grown_kib < 64 * 1024
