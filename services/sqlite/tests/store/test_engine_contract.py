"""What every engine promises: one suite over both. `file` is an empty database's."""

import contextlib
import json
import random
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tovuk_kit.errors import StoreUnavailable, TovukError
from tovuk_sqlite.store.base import (
    Bound,
    Charge,
    Engine,
    Exhausted,
    NotARead,
    NotShort,
    Results,
    Short,
    ShortBounds,
    Statement,
)

COUNT = "with recursive c(x) as (select 1 union all select x + 1 from c where x < ?) "
ENDLESS = "with recursive c(x) as (select 1 union all select x + 1 from c) select count(*) from c"


WORDS = (
    "select insert into update delete from t where a b = ( ) , * 1 'x' ? ; union all with recursive as order by"
    " limit values create table index on drop null not in exists case when end x'00' 1e400 || -- /* */"
)

HOSTILE = [
    "attach '/tmp/other.db' as other",
    "detach main",
    "vacuum",
    "vacuum into '/tmp/copy.db'",
    "select load_extension('/tmp/x.so')",
    "select fts3_tokenizer('simple')",
    "pragma writable_schema = 1",
    "pragma journal_mode = delete",
    "pragma synchronous = off",
    "pragma max_page_count = 1000000000",
    "pragma mmap_size = 1000000000",
    "pragma temp_store_directory = '/'",
    "pragma query_only = off",
    "pragma table_info(_tovuk_used)",
    "pragma trusted_schema = 1",
    "pragma wal_checkpoint",
    "begin",
    "commit",
    "rollback",
    "savepoint a",
    "release run",
    "rollback to run",
    "create temp table x(a)",
    "create temp view x as select 1",
    "create temp trigger x after insert on t begin select 1; end",
    "select * from dbstat",
    "select * from sqlite_dbpage",
    "create virtual table x using dbstat",
    "select * from _tovuk_used",
    "insert into _tovuk_used values ('s', 1, 1, 1)",
    "update _tovuk_used set units = 0",
    "delete from _tovuk_used",
    "drop table _tovuk_used",
    "alter table _tovuk_used rename to mine",
    "create table _TOVUK_other(a)",
    "create index i on _tovuk_used(units)",
    "create trigger x after insert on _tovuk_used begin select 1; end",
    "alter table t rename to _tovuk_t",
    "create view v as select * from _tovuk_used; ",
    "insert into sqlite_master values ('table', 'x', 'x', 2, '')",
    "delete from sqlite_schema",
    "drop table _tovuk_visible_schema",
]


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
        ("select :a", {}, "a is missing"),
        ("select :a", {"a": 1, "b": 2}, "it has no b"),
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


def test_rows_written_are_those_of_tables_and_triggers(file: Any) -> None:
    file.write("create table t(a)", "create table log(a)")
    file.write("create trigger tr after insert on t begin insert into log values (new.a); end")
    assert file.write("insert into t values (1), (2), (3)")[0].rows_written == 6
    assert file.write("update t set a = 0 where a > 1")[0].rows_written == 2
    assert file.write("delete from t")[0].rows_written == 3
    assert file.write("select 1")[0].rows_written == 0


def test_changes_are_the_statements_own_without_those_of_triggers(file: Any) -> None:
    file.write("create table t(a)", "create table log(a)")
    file.write("create trigger r after insert on t begin insert into log values (new.a), (new.a); end")
    inserted, looked_up = file.write("insert into t values (1), (2), (3)", "select 1")
    assert (inserted.changes, looked_up.changes) == (3, 0)


def test_a_row_id_is_of_a_row_that_this_run_inserted(file: Any) -> None:
    file.write("create table t(a integer primary key, b)", "insert into t values (41, 1), (42, 1)")
    [updated] = file.write("update t set b = 2")
    assert (updated.changes, updated.last_insert_rowid) == (2, 0)
    [inserted] = file.write("insert into t(b) values (3)")
    assert inserted.last_insert_rowid == 43


def test_a_statement_has_the_columns_of_the_schema_as_it_is_now(file: Any) -> None:
    sql = "select *, 'end' from t"
    file.write("create table t(a)", "insert into t values (1)")
    for change, columns, rows in (
        ("alter table t add column b default 2", ("a", "b", "'end'"), b'[[1,2,"end"]]'),
        ("alter table t drop column a", ("b", "'end'"), b'[[2,"end"]]'),
    ):
        file.read(sql)
        file.write(change)
        [result] = file.read(sql)
        assert (result.columns, result.rows) == (columns, rows)


def test_an_error_is_of_the_schema_as_it_is_now(file: Any) -> None:
    file.write("create table t(a)")
    file.read("select * from t")
    file.write("alter table t add column b")
    assert file.rows("select * from t order by 2") == b"[]"


def test_rows_read_before_a_failure_are_told(file: Any) -> None:
    file.write("create table t(a)", (COUNT + "insert into t select x from c", (500,)))
    refused(file.read, "select a from t", "select nothing")
    assert file.reader.rows_read == 500
    assert file.read("select a from t")[0].rows_read == file.reader.rows_read == 500


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


def test_a_result_that_must_be_whole_is_refused_and_undone_when_it_is_not(file: Any) -> None:
    file.write("create table t(a)")
    many = (COUNT + "select x from c", (11,))
    error = refused(file.write, "insert into t values (1)", many, result_rows=10, whole=True)
    assert (error.code, error.params["statement"]) == ("sqlite_result_too_large", "1")
    assert file.rows("select count(*) from t") == b"[[0]]"
    assert file.read(many, result_rows=11, whole=True)[0].row_count == 11


def test_the_bytes_of_a_page_are_those_of_all_results(file: Any) -> None:
    blob = "select zeroblob(1000)"
    assert len(file.read(blob, blob, blob, result_bytes=5_000, whole=True)) == 3
    two = "select zeroblob(1000) union all select zeroblob(1000)"
    assert refused(file.read, two, two, result_bytes=5_000, whole=True).params["statement"] == "1"
    wide = "select 1 as " + "x" * 5_000
    assert refused(file.read, wide, blob, result_bytes=5_000, whole=True).params["statement"] == "1"


def test_an_interruption_ends_the_run_it_was_armed_for_and_no_later_one(file: Any) -> None:
    file.reader.arm()
    file.reader.interrupt()
    assert refused(file.read, ENDLESS).code == "sqlite_query_interrupted"
    file.reader.arm()
    assert file.rows("select 1") == b"[[1]]"


def test_an_interruption_comes_from_any_thread(file: Any) -> None:
    timer = threading.Timer(0.05, file.reader.interrupt)
    timer.start()
    assert refused(file.read, ENDLESS).code == "sqlite_query_interrupted"
    timer.join()


def test_a_checkpoint_empties_the_log_into_the_file(file: Any, tmp_path: Path) -> None:
    (path,) = tmp_path.glob("**/1.sqlite")
    before = path.stat().st_size
    file.write("create table t(a)", (COUNT + "insert into t select zeroblob(x) from c", (1_000,)))
    file.writer.checkpoint()
    assert path.stat().st_size > before + 100_000


def test_a_file_that_is_not_there_cannot_be_opened(engine: Engine, tmp_path: Path) -> None:
    for opened in (engine.open_reader, engine.open_writer):
        with pytest.raises(StoreUnavailable):
            opened(tmp_path / "absent.sqlite")


def test_a_broken_file_is_told_as_such_by_every_verb(engine: Engine, tmp_path: Path, make_budget: Any) -> None:
    path = tmp_path / "a" / "b" / "1.sqlite"
    engine.create(path)
    writer = engine.open_writer(path)
    writer.begin()
    writer.run([Statement("create table t(a)"), Statement("insert into t values (1)")], make_budget())
    writer.commit()
    writer.checkpoint()
    path.write_bytes(path.read_bytes()[:4096] + b"\xff" * (path.stat().st_size - 4096))
    for verb in (
        lambda: engine.open_reader(path).run([Statement("select * from t")], make_budget()),
        lambda: engine.open_writer(path).usage(),
        lambda: engine.open_writer(path).forget("s", 1, None),
    ):
        with pytest.raises(StoreUnavailable):
            verb()
    writer.close()


def test_a_file_of_one_engine_is_a_file_of_the_other(
    engine: Engine, other_engine: Engine, tmp_path: Path, make_budget: Any
) -> None:
    path = tmp_path / "a" / "b" / "1.sqlite"
    engine.create(path)
    for opens in (engine, other_engine, engine):
        writer = opens.open_writer(path)
        writer.begin()
        writer.run([Statement("create table if not exists t(a)"), Statement("insert into t values (1)")], make_budget())
        writer.charge([Charge("s", 1, 7, 5)])
        writer.commit()
        writer.close()
    writer = other_engine.open_writer(path)
    assert writer.usage() == [Charge("s", 1, 7, 15)]
    assert writer.run([Statement("select count(*) from t")], make_budget()).content.startswith(
        b'{"columns":["count(*)"],"rows":[[3]],'
    )
    writer.close()


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


@pytest.fixture
def tables(file: Any) -> Any:
    file.write("create table t(a integer primary key, b)", "insert into t values (1, 'x'), (2, 'y')")
    return file


@pytest.mark.parametrize("sql", HOSTILE)
def test_what_reaches_beyond_the_tenants_tables_is_refused(tables: Any, sql: str) -> None:
    tables.writer.begin()
    tables.writer.charge([Charge("s", 1, 1, 1)])
    tables.writer.commit()
    before = tables.rows("select * from sqlite_master")
    if sql.startswith("create view"):
        tables.write(sql)
        sql = "select * from v"
    with pytest.raises(TovukError) as raised:
        tables.write(sql)
    assert raised.value.code in {"sqlite_statement_denied", "sqlite_statement_failed"}, raised.value
    assert tables.writer.usage() == [Charge("s", 1, 1, 1)]
    if sql != "select * from v":
        assert tables.rows("select * from sqlite_master") == before


@pytest.mark.parametrize(
    "sql",
    [
        "pragma table_info(t)",
        "pragma user_version = 5",
        "pragma foreign_key_check",
        "pragma quick_check",
        "select * from pragma_table_info('t')",
        "alter table t add column c default 4",
        "alter table t rename column b to c",
        "alter table t rename to u",
        "alter table t drop column b",
        "create index i on t(b)",
        "create view v as select * from t",
        "create trigger tr after insert on t begin update t set b = 'z'; end",
        "create virtual table f using fts5(x)",
        "create virtual table r using rtree(id, a, b)",
        "create table copy as select * from t",
        "analyze",
        "reindex",
        "drop table t",
        "explain query plan select * from t",
    ],
)
def test_what_stays_within_them_is_allowed(tables: Any, sql: str) -> None:
    tables.write(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "select name from sqlite_master",
        "select name from SQLITE_SCHEMA",
        "select name from main.sqlite_master",
        'select name from "sqlite_master" as m',
        "select sqlite_master.name from sqlite_master",
    ],
)
def test_the_schema_is_shown_without_our_tables(tables: Any, sql: str) -> None:
    assert tables.rows(sql) == b'[["t"]]'


def test_tables_are_listed_without_ours(tables: Any) -> None:
    listed = {row[1] for row in json.loads(tables.rows("pragma table_list"))}
    assert listed - {"sqlite_temp_schema"} == {"t", "sqlite_schema"}


def test_a_statement_of_ours_does_not_lend_its_rights_to_the_same_text_of_the_tenant(tables: Any) -> None:
    tables.writer.usage()
    for sql in ("SELECT store, epoch, lease, units FROM _tovuk_used", "ROLLBACK", "COMMIT", "BEGIN IMMEDIATE"):
        with pytest.raises(TovukError) as raised:
            tables.write(sql)
        assert raised.value.code in {"sqlite_statement_denied", "sqlite_statement_failed"}


def test_every_fuzzed_string_is_answered(tables: Any) -> None:
    chance = random.Random(4)
    words = (WORDS + " \x00 é").split(" ")
    for _ in range(1_500):
        sql = " ".join(chance.choices(words, k=chance.randint(1, 12)))
        with contextlib.suppress(TovukError, Exhausted, NotARead):
            tables.write(sql, rows_written=100)
    assert tables.rows("pragma integrity_check") == b'[["ok"]]'


def test_a_copy_is_of_one_moment_and_holds_what_is_only_in_the_wal(
    engine: Engine, file: Any, tmp_path: Path, make_budget: Any
) -> None:
    file.write("create table t(v)", "insert into t values (1)")
    source = tmp_path / "databases" / "aa" / "sqlite_aa" / "1.sqlite"
    engine.copy(source, tmp_path / "copy")
    file.write("insert into t values (2)")
    assert engine.problems(tmp_path / "copy") == []
    with contextlib.closing(engine.open_reader(tmp_path / "copy")) as reader:
        assert reader.run([Statement("select v from t")], make_budget()).content.startswith(
            b'{"columns":["v"],"rows":[[1]],'
        )


def test_a_file_that_is_not_whole_has_problems(engine: Engine, file: Any, tmp_path: Path) -> None:
    file.write("create table t(v)", (f"insert into t {COUNT} select x from c", (5_000,)))
    source = tmp_path / "databases" / "aa" / "sqlite_aa" / "1.sqlite"
    engine.copy(source, tmp_path / "copy")
    whole = (tmp_path / "copy").read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:12288] + b"\xff" * 4096 + whole[16384:], b"no database" * 999):
        (tmp_path / "copy").write_bytes(damaged)
        assert engine.problems(tmp_path / "copy") != []


SHORT = ShortBounds(each_s=5.0, total_s=10.0, result_rows=100, result_bytes=10_000, file_bytes=2**30)


def short(sql: str, params: Any = (), rows_read: int = 1_000, rows_written: int = 1_000) -> Short:
    return Short((Statement(sql, params),), rows_read, rows_written)


def test_short_reads_answer_each_for_itself(tables: Any) -> None:
    found, failed, denied = tables.reader.run_short(
        [
            short("select b from t where a = ?", (1,)),
            short("select abs(-9223372036854775808)"),
            short("insert into t values (3, 'z')"),
        ],
        SHORT,
    )
    assert (tables.told(found).rows, found.row_count, found.rows_read) == (b'[["x"]]', 1, 1)
    assert failed.error.code == "sqlite_statement_failed"
    assert isinstance(denied.error, NotARead)
    assert tables.rows("select count(*) from t") == b"[[2]]"


def test_short_reads_see_what_is_committed_before(tables: Any) -> None:
    for expected in (3, 4):
        tables.write("insert into t(b) values ('z')")
        (result,) = tables.reader.run_short([short("select count(*) from t")], SHORT)
        assert tables.told(result).rows == b"[[%d]]" % expected


def test_short_writes_undo_themselves_alone_and_are_durable_together(tables: Any) -> None:
    writer = tables.writer
    writer.begin()
    first, taken, third = writer.run_short(
        [
            short("insert into t values (?, ?)", (3, "c")),
            short("insert into t values (?, ?), (1, 'taken')", (4, "d")),
            short("update t set b = 'e' where a = 3"),
        ],
        SHORT,
    )
    writer.commit()
    assert (first.rows_written, tables.told(first).last_insert_rowid, third.changes) == (1, 3, 1)
    assert taken.error.params["constraint"] == "primary_key"
    assert tables.rows("select * from t where a > 2") == b'[[3,"e"]]'


def test_a_short_run_of_several_statements_is_all_or_nothing(tables: Any) -> None:
    insert = Statement("insert into t values (?, ?)", (3, "c"))
    writer = tables.writer
    writer.begin()
    done, failed, wrong, after = writer.run_short(
        [
            Short((insert, Statement("select count(*) from t")), 1_000, 1_000),
            Short((Statement("insert into t values (4, 'd')"), insert, Statement("select 1")), 1_000, 1_000),
            Short((Statement("insert into t values (5, 'e')"), Statement("select ?", ({},))), 1_000, 1_000),
            short("select count(*) from t"),
        ],
        SHORT,
    )
    writer.commit()
    assert b'"rows":[[3]]' in done.content and (done.rows_written, done.changes) == (1, 1)
    assert (failed.error.code, failed.error.params["statement"]) == ("sqlite_constraint_failed", "1")
    assert (wrong.error.code, wrong.error.params["statement"]) == ("sqlite_parameters_invalid", "1")
    assert tables.told(after).rows == b"[[3]]"
    assert tables.rows("select a from t") == b"[[1],[2],[3]]"


def test_a_short_run_of_several_statements_reads_one_snapshot_within_one_budget(tables: Any) -> None:
    all_rows = Statement("select b from t")
    both, beyond, wide = tables.reader.run_short(
        [
            Short((all_rows, all_rows), 4, 0),
            Short((all_rows, all_rows), 3, 0),
            Short((Statement("select zeroblob(6000)"), Statement("select zeroblob(3000)")), 4, 0),
        ],
        SHORT,
    )
    assert both.rows_read == 4 and both.content.count(b'"rows":[["x"],["y"]]') == 2
    assert isinstance(beyond, NotShort) and isinstance(wide, NotShort)


def test_a_short_run_breaks_no_foreign_key_that_a_later_statement_mends(file: Any) -> None:
    file.write("create table p(id integer primary key)")
    file.write("create table c(p references p deferrable initially deferred)")
    child, parent = Statement("insert into c values (1)"), Statement("insert into p values (1)")
    file.writer.begin()
    (mended,) = file.writer.run_short([Short((child, parent), 1_000, 1_000)], SHORT)
    file.writer.commit()
    assert (mended.rows_written, file.rows("select * from c")) == (2, b"[[1]]")


@pytest.mark.parametrize(
    ("run", "bounds"),
    [
        (short(ENDLESS, rows_read=10**9), replace(SHORT, each_s=0.02)),
        (short("select b from t"), replace(SHORT, result_rows=1)),
        (short("select zeroblob(9000), b from t"), SHORT),
        (short("select count(*) from t a, t b", rows_read=1), SHORT),
        (short("insert into t select a + 10, b from t", rows_written=1), SHORT),
    ],
)
def test_what_exceeds_its_bounds_is_not_short_and_does_nothing(tables: Any, run: Short, bounds: ShortBounds) -> None:
    writer = tables.writer
    writer.begin()
    (ended,) = writer.run_short([run], bounds)
    writer.commit()
    assert isinstance(ended, NotShort) and ended.begun
    assert tables.rows("select count(*) from t") == b"[[2]]"


def test_runs_are_not_begun_when_the_time_of_all_is_over(tables: Any) -> None:
    long = short(ENDLESS, rows_read=10**9)
    bounds = replace(SHORT, each_s=0.02, total_s=0.01)
    first, second = tables.reader.run_short([long, short("select 1")], bounds)
    assert (first.begun, second.begun) == (True, False)
    first, second = tables.reader.run_short([short("select 1"), short("select 2")], SHORT)
    assert isinstance(first, Results) and isinstance(second, Results)


def test_a_short_write_stays_within_the_files_room(tables: Any) -> None:
    writer = tables.writer
    room = writer.storage_bytes() + 10 * 4096
    writer.begin()
    (full,) = writer.run_short([short("insert into t values (3, zeroblob(1000000))")], replace(SHORT, file_bytes=room))
    writer.roll_back()
    assert isinstance(full.error, Exhausted) and full.error.bound is Bound.FILE_BYTES
    assert writer.storage_bytes() <= room
    assert tables.rows("select count(*) from t") == b"[[2]]"
