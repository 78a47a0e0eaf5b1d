import time
from typing import Any

import pytest

from tovuk_kit.errors import TovukError
from tovuk_sqlite.store.base import Bound, Charge, Exhausted, NotARead, Statement

COUNT = "with recursive c(x) as (select 1 union all select x + 1 from c where x < ?) "
ENDLESS = "with recursive c(x) as (select 1 union all select x + 1 from c) select count(*) from c"


def refused(run: Any, *sql: Any, **limits: Any) -> TovukError:
    with pytest.raises(TovukError) as raised:
        run(*sql, **limits)
    return raised.value


def test_values_come_back_as_they_were_bound(file: Any) -> None:
    file.write("create table t(a, b, c, d, e)")
    row = (None, 2**63 - 1, float("-inf"), "é", b"\x00\xff")
    file.write(("insert into t values (?, ?, ?, ?, ?)", row))
    assert file.rows("select * from t") == '[[null,9223372036854775807,{"real":"-inf"},"é",{"base64":"AP8="}]]'.encode()


def test_named_parameters_are_bound_by_name(file: Any) -> None:
    assert file.rows("select :a, $b, @a", {"a": 1, "b": 2}) == b"[[1,2,1]]"


@pytest.mark.parametrize(
    ("sql", "params", "reason"),
    [
        ("select ?", (), "it takes 1, 0 were sent"),
        ("select ?", (1, 2), "it takes 1, 2 were sent"),
        ("select :a", {"b": 1}, "a is missing"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(file: Any, sql: str, params: Any, reason: str) -> None:
    error = refused(file.read, (sql, params))
    assert (error.code, error.params["reason"]) == ("sqlite_parameters_invalid", reason)


def test_a_hundred_parameters_are_taken_where_a_hundred_are_allowed_and_no_more(file: Any) -> None:
    marks = ",".join("?" * 100)
    assert file.read((f"select {marks}", (0,) * 100))[0].row_count == 1
    assert refused(file.read, (f"select {marks},?", (0,) * 101)).code == "sqlite_too_many_parameters"


def test_a_syntax_error_says_where(file: Any) -> None:
    error = refused(file.read, "select 1", "select fro m")
    assert error.code == "sqlite_statement_failed" and error.params["statement"] == "1"
    error = refused(file.read, "select * from")
    assert (error.code, error.params["detail"]) == ("sqlite_syntax_error", "incomplete input")
    assert refused(file.read, "select 1 +* 2").params["offset"] == "10"


@pytest.mark.parametrize(
    ("sql", "constraint"),
    [
        ("insert into t values (1, 'x', 1)", "primary_key"),
        ("insert into t values (2, 'a', 1)", "unique"),
        ("insert into t values (2, null, 1)", "not_null"),
        ("insert into t values (2, 'x', 9)", "check"),
    ],
)
def test_a_broken_constraint_has_a_name(file: Any, sql: str, constraint: str) -> None:
    file.write("create table t(id integer primary key, a text not null unique, b check (b < 5))")
    file.write("insert into t values (1, 'a', 1)")
    error = refused(file.write, sql)
    assert (error.code, error.params["constraint"]) == ("sqlite_constraint_failed", constraint)


def test_a_deferred_constraint_speaks_at_the_commit(file: Any) -> None:
    file.write("create table p(id integer primary key)")
    file.write("create table c(p references p deferrable initially deferred)")
    assert refused(file.write, "insert into c values (1)").params["constraint"] == "foreign_key"
    assert file.rows("select count(*) from c") == b"[[0]]"


@pytest.mark.parametrize("sql", ["select 1; select 2", "create table x(a); drop table x"])
def test_several_statements_are_refused_before_the_first_runs(file: Any, sql: str) -> None:
    assert refused(file.write, sql).code == "sqlite_several_statements"


@pytest.mark.parametrize("sql", ["select 1;", "select 1; -- end", "/* a; b */ select ';'", "select 1;;"])
def test_one_statement_with_semicolons_is_one(file: Any, sql: str) -> None:
    assert file.read(sql)[0].row_count == 1


@pytest.mark.parametrize("sql", ["", " ; ", "-- nothing", "/* nothing"])
def test_an_empty_statement_is_refused(file: Any, sql: str) -> None:
    assert refused(file.read, sql).code == "sqlite_statement_empty"


def test_a_reader_refuses_to_write_and_does_nothing(file: Any) -> None:
    file.write("create table t(a)")
    for sql in ("insert into t values (1)", "with x as (select 1) insert into t select * from x", "drop table t"):
        with pytest.raises(NotARead):
            file.read(sql)
    assert file.rows("select count(*) from t") == b"[[0]]"


def test_a_failed_run_undoes_itself_alone(file: Any, make_budget: Any) -> None:
    writer = file.writer
    writer.begin()
    writer.run([Statement("create table t(a unique)"), Statement("insert into t values (1)")], make_budget())
    with pytest.raises(TovukError):
        writer.run([Statement("insert into t values (2)"), Statement("insert into t values (1)")], make_budget())
    writer.commit()
    assert file.rows("select a from t") == b"[[1]]"


def test_a_statement_that_ends_the_transaction_is_noticed(file: Any, make_budget: Any) -> None:
    file.write("create table t(a unique)", "insert into t values (1)")
    file.writer.begin()
    with pytest.raises(TovukError):
        file.writer.run([Statement("insert or rollback into t values (1)")], make_budget())
    assert not file.writer.in_transaction


def test_rows_written_are_those_of_tables_and_triggers(file: Any) -> None:
    file.write("create table t(a)", "create table log(a)")
    file.write("create trigger tr after insert on t begin insert into log values (new.a); end")
    assert file.write("insert into t values (1), (2), (3)")[0].rows_written == 6
    assert file.write("update t set a = 0 where a > 1")[0].rows_written == 2
    assert file.write("delete from t")[0].rows_written == 3
    assert file.write("select 1")[0].rows_written == 0


def test_rows_beyond_the_budget_stop_the_statement_inside_and_undo_it(file: Any) -> None:
    file.write("create table t(a)")
    with pytest.raises(Exhausted) as raised:
        file.write((COUNT + "insert into t select x from c", (1_000_000,)), rows_written=1_000)
    assert raised.value.bound is Bound.ROWS_WRITTEN
    assert file.rows("select count(*) from t") == b"[[0]]"


def test_a_run_asks_for_more_rows_and_goes_on(file: Any) -> None:
    asked = []

    def more(bound: Bound, used: int) -> int:
        asked.append((bound, used))
        return 50_000

    file.write("create table t(a)")
    results = file.write((COUNT + "insert into t select x from c", (100_000,)), rows_written=10, more=more)
    assert results[0].rows_written == 100_000
    assert {bound for bound, _ in asked} == {Bound.ROWS_WRITTEN}


def test_exactly_the_budget_is_enough(file: Any) -> None:
    file.write("create table t(a)")
    assert file.write("insert into t values (1), (2)", rows_written=2)[0].rows_written == 2
    with pytest.raises(Exhausted):
        file.write("insert into t values (1), (2)", rows_written=1)


def test_a_file_does_not_grow_beyond_its_room(file: Any) -> None:
    with pytest.raises(Exhausted) as raised:
        file.write("create table t(a)", "insert into t values (zeroblob(1000000))", file_bytes=100_000)
    assert raised.value.bound is Bound.FILE_BYTES
    assert file.writer.storage_bytes() < 100_000


def test_a_query_ends_at_its_deadline(file: Any) -> None:
    began = time.monotonic()
    assert refused(file.read, ENDLESS, ends_at_s=began + 0.2).code == "sqlite_query_too_slow"
    assert time.monotonic() - began < 5


def test_a_page_ends_before_its_bounds_and_the_next_begins_there(file: Any) -> None:
    sql = (COUNT + "select x from c", (25,))
    first = file.read(sql, result_rows=10)[0]
    assert (first.row_count, first.more) == (10, True)
    rest = file.read(sql, result_rows=15, skip_rows=10)[0]
    assert (rest.row_count, rest.more, rest.rows[:6]) == (15, False, b"[[11],")
    small = file.read(("select zeroblob(100) union all select zeroblob(100)", ()), result_bytes=150)[0]
    assert (small.row_count, small.more) == (1, True)


def test_a_statement_that_writes_has_one_page_of_rows(file: Any) -> None:
    file.write("create table t(a)")
    sql = (COUNT + "insert into t select x from c returning a", (11,))
    assert refused(file.write, sql, result_rows=10).code == "sqlite_result_too_large"
    assert file.write(sql, result_rows=11)[0].row_count == 11


def test_text_that_is_not_utf8_is_refused(file: Any) -> None:
    assert refused(file.read, "select cast(x'ff' as text)").code == "sqlite_text_invalid"


def test_usage_rows_are_kept_with_the_effect_and_forgotten_when_told(file: Any, make_budget: Any) -> None:
    writer = file.writer
    writer.begin()
    assert writer.charge([Charge("s", 1, 7, 5)]) == {Charge("s", 1, 7, 5): 5}
    writer.roll_back()
    assert writer.usage() == []
    for total in (5, 10):
        writer.begin()
        assert list(writer.charge([Charge("s", 1, 7, 5)]).values()) == [total]
        writer.commit()
    assert writer.usage() == [Charge("s", 1, 7, 10)]
    writer.forget("s", 1, [8])
    assert len(writer.usage()) == 1
    writer.forget("s", 1, None)
    assert writer.usage() == []


def test_free_pages_go_back_to_the_disk(file: Any) -> None:
    file.write("create table t(a)", "insert into t values (zeroblob(1000000))")
    full = file.writer.storage_bytes()
    file.write("delete from t")
    while file.writer.shrink():
        pass
    assert file.writer.storage_bytes() < full / 2


def test_a_plan_names_the_tables_that_are_scanned(file: Any) -> None:
    file.write("create table t(a, b)", "create index i on t(b)", "insert into t values (1, 1)")
    assert file.reader.plan(Statement("select * from t where a = ?", (1,))).scans == ("t",)
    assert file.reader.plan(Statement("select * from t where b = 1")).scans == ()
    assert refused(file.reader.plan, Statement("selec")).code == "sqlite_syntax_error"
