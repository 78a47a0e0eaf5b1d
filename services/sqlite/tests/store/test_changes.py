from pathlib import Path
from typing import Any

from tovuk_sqlite.store import wal
from tovuk_sqlite.store.base import Engine
from tovuk_sqlite.store.changes import Changes

_ROWS = (
    "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)"
    " SELECT i, zeroblob(200) FROM n"
)

_SUMS = "SELECT count(*), sum(i), sum(length(b)) FROM t"


def _put(copy: Path, changes: Changes) -> int:
    """Put the next pages in their places; how many there were."""
    pages = changes.take()
    with copy.open("r+b") as target:
        for offset, page in pages:
            target.seek(offset)
            target.write(page)
    return len(pages)


def _take_all(copy: Path, changes: Changes) -> None:
    while _put(copy, changes):
        pass
    with copy.open("r+b") as target:
        target.truncate(changes.size_bytes)


def _check_same(engine: Engine, file: Any, copy: Path) -> None:
    assert engine.problems(copy) == []
    expected = file.rows(_SUMS)
    file.reader.close()
    file.reader = engine.open_reader(copy)
    assert file.rows(_SUMS) == expected


def test_a_copy_and_the_changes_read_meanwhile_are_the_database(engine: Engine, file: Any, tmp_path: Path) -> None:
    path = tmp_path / "databases" / "aa" / "sqlite_aa" / "1.sqlite"
    copy = tmp_path / "copy"
    file.write("CREATE TABLE t (i, b)", _ROWS)
    engine.copy(path, copy)
    changes = Changes(path, copy.stat().st_size, tmp_path / "changes", lambda: None)
    file.write("UPDATE t SET i = i + 1000 WHERE i % 50 = 0")
    assert _put(copy, changes)
    file.write(_ROWS)
    file.write("DELETE FROM t WHERE i < 100")
    _take_all(copy, changes)
    _check_same(engine, file, copy)


def test_a_wal_that_was_read_may_be_copied_back_and_begun_anew(engine: Engine, file: Any, tmp_path: Path) -> None:
    path = tmp_path / "databases" / "aa" / "sqlite_aa" / "1.sqlite"
    log, copy = path.with_name("1.sqlite-wal"), tmp_path / "copy"
    file.write("CREATE TABLE t (i, b)")
    engine.copy(path, copy)
    changes = Changes(path, copy.stat().st_size, tmp_path / "changes", lambda: None)
    for _ in range(3):
        file.write(_ROWS)
        file.write("DELETE FROM t WHERE i % 7 = 0")
        changes.follow()
        size = log.stat().st_size
        file.writer.checkpoint()
    # What is begun anew does not grow.
    assert log.stat().st_size == size
    _take_all(copy, changes)
    _check_same(engine, file, copy)
    assert changes.take() == []


def test_what_is_known_to_be_committed_is_read_without_another_look(file: Any, tmp_path: Path) -> None:
    path = tmp_path / "databases" / "aa" / "sqlite_aa" / "1.sqlite"
    file.write("CREATE TABLE t (i, b)")
    with path.with_name("1.sqlite-wal").open("rb") as log:
        header = wal.read_header(log.fileno())
    assert header is not None
    first = Changes(path, 4096, tmp_path / "first", lambda: (header.salts, file.writer.wal_frames))
    other = Changes(path, 4096, tmp_path / "other", lambda: None)
    assert first.take() == other.take() != []
    file.write(_ROWS)
    assert first.take() == other.take() != []
    assert first.size_bytes == other.size_bytes


def test_a_file_without_a_wal_has_no_changes(tmp_path: Path) -> None:
    changes = Changes(tmp_path / "none", 4096, tmp_path / "changes", lambda: None)
    assert changes.take() == []
