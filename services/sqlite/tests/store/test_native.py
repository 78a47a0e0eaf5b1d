"""What holds for the native engine alone: exact rows, and nothing that ends others' transaction."""

from typing import Any

import pytest

from tovuk_kit.errors import TovukError
from tovuk_sqlite.store.base import Bound, Exhausted, Results, Short, ShortBounds, Statement

COUNT = "with recursive c(x) as (select 1 union all select x + 1 from c where x < ?) "


@pytest.fixture
def engine_name() -> str:
    return "native"


@pytest.fixture
def tables(file: Any) -> Any:
    file.write("create table t(id integer primary key, a)", "create index i on t(a)")
    file.write((COUNT + "insert into t select x, x from c", (1_000,)))
    return file


@pytest.mark.parametrize(
    ("sql", "rows_read"),
    [
        ("select * from t where id = 5", 1),
        ("select * from t where id = 5000", 0),
        ("select * from t where a between 10 and 19", 11),
        ("select count(*) from t", 1_000),
        ("select a from t limit 3", 3),
    ],
)
def test_rows_read_are_exact(tables: Any, sql: str, rows_read: int) -> None:
    assert tables.read(sql)[0].rows_read == rows_read


def test_rows_written_count_index_entries(tables: Any) -> None:
    assert tables.write("insert into t values (5000, 1)")[0].rows_written == 2


def test_a_read_stops_at_its_last_row_and_tells_how_many_it_read(tables: Any) -> None:
    assert tables.read("select count(*) from t", rows_read=1_000)[0].rows_read == 1_000
    with pytest.raises(Exhausted) as raised:
        tables.read("select count(*) from t", rows_read=999)
    assert raised.value.bound is Bound.ROWS_READ
    assert tables.reader.rows_read <= 999


def test_a_write_that_may_read_no_more_rows_is_undone(tables: Any) -> None:
    with pytest.raises(Exhausted) as raised:
        tables.write("update t set a = 0 where a + 0 = a", rows_read=500)
    assert raised.value.bound is Bound.ROWS_READ
    assert tables.rows("select count(*) from t where a = 0") == b"[[0]]"


def test_a_statement_cannot_end_the_transaction_it_shares_with_others(file: Any, make_budget: Any) -> None:
    file.write("create table t(a unique)", "insert into t values (1)")
    file.writer.begin()
    file.writer.run([Statement("insert into t values (2)")], make_budget())
    with pytest.raises(TovukError):
        file.writer.run([Statement("insert or rollback into t values (1)")], make_budget())
    assert file.writer.in_transaction
    file.writer.commit()
    assert file.rows("select count(*) from t") == b"[[2]]"


def test_a_write_without_room_leaves_the_others_of_its_transaction(file: Any) -> None:
    file.write("create table t(a)")
    writer = file.writer
    bounds = ShortBounds(5.0, 10.0, 100, 10_000, writer.storage_bytes() + 10 * 4096)
    writer.begin()
    sql = "insert into t values (zeroblob(?))"
    runs = [Short((Statement(sql, (size,)),), 10, 10) for size in (1_000_000, 100)]
    full, fits = writer.run_short(runs, bounds)
    writer.commit()
    assert isinstance(full.error, Exhausted) and isinstance(fits, Results)
    assert file.rows("select length(a) from t") == b"[[100]]"


def test_a_statement_waits_for_its_next_page_on_its_snapshot(tables: Any, make_budget: Any) -> None:
    (first,) = tables.read("select id from t", result_rows=600, resumable=True)
    assert (first.row_count, first.more, tables.reader.suspended) == (600, True, True)
    tables.write("delete from t")
    second = tables.reader.next_page(make_budget(result_rows=600))
    assert (second.row_count, second.more, tables.told(second).rows[:6]) == (400, False, b"[[601]")
    assert first.rows_read + tables.reader.rows_read <= 1_001
    assert tables.rows("select count(*) from t") == b"[[0]]"


def test_a_suspended_statement_ends_when_it_is_let_go_or_fails(tables: Any, make_budget: Any) -> None:
    tables.read("select id from t", result_rows=10, resumable=True)
    with pytest.raises(Exhausted):
        tables.reader.next_page(make_budget(rows_read=5))
    assert (tables.reader.suspended, tables.reader.rows_read) == (False, 5)
    tables.read("select id from t", result_rows=10, resumable=True)
    tables.reader.let_go()
    assert tables.rows("select count(*) from t") == b"[[1000]]"
