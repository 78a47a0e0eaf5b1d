from pathlib import Path
from typing import Any

from tovuk_sqlite.store.base import Engine
from tovuk_sqlite.store.changes import Changes

_ROWS = (
    "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)"
    " SELECT i, zeroblob(200) FROM n"
)


def _put(copy: Path, changes: Changes) -> int:
    """Put the next pages in their places; how many there were."""
    pages = changes.read()
    with copy.open("r+b") as target:
        for offset, page in pages:
            target.seek(offset)
            target.write(page)
    return len(pages)


def test_a_copy_and_the_changes_read_meanwhile_are_the_database(engine: Engine, file: Any, tmp_path: Path) -> None:
    path = tmp_path / "databases" / "aa" / "sqlite_aa" / "1.sqlite"
    copy = tmp_path / "copy"
    file.write("CREATE TABLE t (i, b)", _ROWS)
    engine.copy(path, copy)
    changes = Changes(path, copy.stat().st_size)
    file.write("UPDATE t SET i = i + 1000 WHERE i % 50 = 0")
    assert _put(copy, changes)
    file.write(_ROWS)
    file.write("DELETE FROM t WHERE i < 100")
    while _put(copy, changes):
        pass
    with copy.open("r+b") as target:
        target.truncate(changes.size_bytes)
    assert engine.problems(copy) == []
    sums = "SELECT count(*), sum(i), sum(length(b)) FROM t"
    expected = file.rows(sums)
    file.reader.close()
    file.reader = engine.open_reader(copy)
    assert file.rows(sums) == expected


def test_a_file_without_a_wal_has_no_changes(tmp_path: Path) -> None:
    assert Changes(tmp_path / "none", 4096).read() == []
