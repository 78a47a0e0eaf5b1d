"""What one run does: all statements or none, errors as facts, budgets that grow, pages, transactions."""

import json
import math
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tovuk_sqlite_native import Connection, Interrupt, Ran, SqliteError

ENDLESS = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"
MANY = (
    "with recursive n(i) as (select 1 union all select i + 1 from n where i < {0})"
    " insert into t select i, 'b' || i from n"
)


def rows(connection: Connection, sql: str, params: Any = ()) -> list[list[Any]]:
    result: list[list[Any]] = json.loads(connection.run([(sql, params)])[0].rows)
    return result


def failure(connection: Connection, sql: str, params: Any = (), **options: Any) -> SqliteError:
    with pytest.raises(SqliteError) as failed:
        connection.run([(sql, params)], **options)
    return failed.value


@pytest.fixture
def filled(tenant: Connection) -> Connection:
    tenant.run([("create table t (id integer primary key, b text unique)", ()), (MANY.format(100), ())])
    return tenant


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, None),
        (True, 1),
        (-(2**63), -(2**63)),
        (2**63 - 1, 2**63 - 1),
        (0.1, 0.1),
        (1e300, 1e300),
        (-0.0, -0.0),
        (math.inf, {"real": "inf"}),
        (-math.inf, {"real": "-inf"}),
        (math.nan, None),
        ('a"\\\n\x00\x1f\x7fé🐘', 'a"\\\n\x00\x1f\x7fé🐘'),
        ("", ""),
        (b"", {"base64": ""}),
        (b"\x00\xff", {"base64": "AP8="}),
        (b"abc", {"base64": "YWJj"}),
    ],
)
def test_every_value_comes_back_as_json(tenant: Connection, value: Any, told: object) -> None:
    (row,) = rows(tenant, "select ?1, typeof(?1)", [value])
    assert row[0] == told
    assert type(row[0]) is type(told)


def test_a_real_never_looks_like_an_integer(tenant: Connection) -> None:
    assert (
        tenant.run([("select 1.0, 1e15, 123456789012345678.0", ())])[0].rows
        == b"[[1.0,1000000000000000.0,1.2345678901234568e17]]"
    )


@pytest.mark.parametrize(
    ("sql", "params", "message"),
    [
        ("select ?", [], "it takes 1, 0 were sent"),
        ("select 1", [1], "it takes 0, 1 were sent"),
        ("select :a, :b", {"a": 1}, "b is missing"),
        ("select :a", {"a": 1, "c": 2}, "it has no c"),
        ("select ?", [2**63], "parameter 1: an integer beyond 64 bits"),
        ("select ?", ["\ud800"], "parameter 1: text that is not Unicode (a lone surrogate)"),
        ("select ?", [object()], "parameter 1: no SQLite type for object"),
        ("select :a", {"a": 1, ":a": 2}, ":a was sent twice"),
    ],
)
def test_parameters_must_fit(tenant: Connection, sql: str, params: Any, message: str) -> None:
    error = failure(tenant, sql, params)
    assert (error.kind, error.message) == ("parameters", message)


def test_named_parameters_need_no_sign(tenant: Connection) -> None:
    assert rows(tenant, "select :a, @b, $c, $a", {"a": 1, "@b": 2, "c": 3}) == [[1, 2, 3, 1]]


def test_text_that_is_not_utf8_is_refused_and_undone(filled: Connection) -> None:
    assert failure(filled, "select cast(x'ff' as text)").kind == "text"
    assert failure(filled, "delete from t returning cast(x'ff' as text)").kind == "text"
    assert rows(filled, "select count(*) from t") == [[100]]


@pytest.mark.parametrize(
    ("sql", "kind", "offset"),
    [
        ("selec 1", "syntax", 0),
        ("select 'é', from", "syntax", 13),
        ("select * from nowhere", "syntax", None),
        ("select 1; select 2", "several_statements", 10),
        ("select 1;;  -- nothing more", None, None),
        ("/* first */ ; select 1", None, None),
        ("", "empty", None),
        (" ; -- nothing", "empty", None),
        ("select 1\0", "syntax", None),
        ("select abs(-9223372036854775808)", "runtime", None),
        ("select json('{')", "runtime", None),
        ("create table t (n integer) strict", None, None),
    ],
)
def test_texts_that_are_no_statement_are_told_apart(
    tenant: Connection, sql: str, kind: str | None, offset: int | None
) -> None:
    if kind is None:
        tenant.run([(sql, ())])
    else:
        error = failure(tenant, sql)
        assert (error.kind, error.offset) == (kind, offset)


@pytest.mark.parametrize(
    ("sql", "name", "constraint"),
    [
        ("insert into c values (1, 1, 1, 1)", "SQLITE_CONSTRAINT_PRIMARYKEY", "c.id"),
        ("insert into c values (2, 1, 1, 1)", "SQLITE_CONSTRAINT_UNIQUE", "c.u"),
        ("insert into c values (2, 2, null, 1)", "SQLITE_CONSTRAINT_NOTNULL", "c.n"),
        ("insert into c values (2, 2, 1, -1)", "SQLITE_CONSTRAINT_CHECK", "positive"),
        ("insert into d values (9)", "SQLITE_CONSTRAINT_FOREIGNKEY", None),
    ],
)
def test_a_broken_constraint_is_named(tenant: Connection, sql: str, name: str, constraint: str | None) -> None:
    c = "create table c (id integer primary key, u unique, n not null, k constraint positive check (k > 0))"
    tenant.run([(c, ()), ("create table d (c references c)", ()), ("insert into c values (1, 1, 1, 1)", ())])
    error = failure(tenant, sql)
    assert (error.kind, error.name, error.constraint, error.code) == ("constraint", name, constraint, 19)


def test_a_batch_is_all_or_nothing(filled: Connection) -> None:
    with pytest.raises(SqliteError) as failed:
        filled.run(
            [
                ("delete from t", ()),
                ("create table more (n)", ()),
                ("insert into t values (1, 'x')", ()),
                ("nonsense", ()),
            ]
        )
    assert (failed.value.statement, failed.value.kind) == (3, "syntax")
    assert rows(filled, "select count(*), (select count(*) from sqlite_schema) from t") == [[100, 2]]
    assert not filled.in_transaction


@pytest.mark.parametrize("conflict", ["rollback", "fail", "abort"])
def test_a_failed_run_undoes_itself_and_nothing_else_of_the_transaction(filled: Connection, conflict: str) -> None:
    filled.begin()
    filled.run([("insert into t values (1001, 'first')", ())])
    error = failure(filled, f"insert or {conflict} into t values (1002, 'x'), (1, 'taken')")
    assert not error.transaction_lost
    failure(filled, "update t set b = b || '!'", rows_written_max=10)
    filled.run([("insert into t values (1003, 'third')", ())])
    filled.commit()
    assert rows(filled, "select id from t where id > 1000") == [[1001], [1003]]
    assert filled.integrity_check() == []


def test_a_trigger_that_raises_rollback_undoes_its_run_only(filled: Connection) -> None:
    filled.run([("create trigger no before delete on t begin select raise(rollback, 'kept'); end", ())])
    filled.begin()
    filled.run([("insert into t values (1001, 'kept')", ())])
    error = failure(filled, "delete from t where id = 1")
    assert (error.message, error.transaction_lost, filled.in_transaction) == ("kept", False, True)
    filled.commit()
    assert rows(filled, "select count(*) from t") == [[101]]


def test_a_deferred_foreign_key_is_due_at_the_end_of_its_run(tenant: Connection) -> None:
    tenant.run(
        [
            ("create table p (id integer primary key)", ()),
            ("create table c (p references p deferrable initially deferred)", ()),
        ]
    )
    tenant.begin()
    error = failure(tenant, "insert into c values (1)")
    assert error.name == "SQLITE_CONSTRAINT_FOREIGNKEY"
    tenant.run([("insert into c values (1)", ()), ("insert into p values (1)", ())])
    tenant.commit()
    assert rows(tenant, "select * from c") == [[1]]


def test_deferring_foreign_keys_ends_with_the_run(tenant: Connection) -> None:
    tenant.run([("create table p (id integer primary key)", ()), ("create table c (p references p)", ())])
    tenant.begin()
    tenant.run(
        [("pragma defer_foreign_keys = on", ()), ("insert into c values (1)", ()), ("insert into p values (1)", ())]
    )
    with pytest.raises(SqliteError):
        tenant.run([("insert into c values (2)", ()), ("insert into p values (2)", ())])
    tenant.commit()


def test_savepoints_nest(filled: Connection) -> None:
    filled.begin()
    filled.savepoint()
    filled.run([("delete from t where id = 1", ())])
    filled.savepoint()
    filled.run([("delete from t", ())])
    filled.rollback_to()
    filled.release()
    filled.commit()
    assert rows(filled, "select count(*) from t") == [[99]]


def test_a_budget_that_grows_is_asked_for_in_the_middle_of_a_statement(filled: Connection) -> None:
    asked: list[tuple[str, int]] = []

    def more(meter: str, used: int) -> int:
        asked.append((meter, used))
        return 25

    (result,) = filled.run([("update t set b = b || '!'", ())], rows_written_max=150, more=more)
    assert result.rows_written == 200
    assert asked == [("rows_written", 150), ("rows_written", 175)]


def test_a_statement_that_failed_counts_from_nothing_when_it_runs_again(filled: Connection) -> None:
    scan = "update t set b = b || '!'"
    (first,) = filled.run([(scan, ())])
    failure(filled, scan, rows_written_max=50)
    (again,) = filled.run([(scan, ())])
    assert (first.vm_steps, first.fullscan_steps) == (again.vm_steps, again.fullscan_steps)


def test_what_the_callback_raises_ends_the_run(filled: Connection) -> None:
    def more(_meter: str, _used: int) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        filled.run([("delete from t where id > 0", ())], rows_written_max=5, more=more)
    assert rows(filled, "select count(*) from t") == [[100]]


def test_a_budget_holds_for_the_whole_batch(filled: Connection) -> None:
    with pytest.raises(SqliteError) as stopped:
        filled.run([("select * from t", ()), ("select * from t", ())], rows_read_max=150)
    assert (stopped.value.kind, stopped.value.statement, stopped.value.rows_read) == ("rows_read", 1, 150)


@pytest.mark.parametrize(
    "sql",
    [
        ENDLESS,
        "select count(*) from t a, t b, t c, t d, t e",
        "delete from t where (select count(*) from t a, t b, t c, t d) > 0",
    ],
)
def test_a_deadline_ends_a_statement(filled: Connection, sql: str) -> None:
    began = time.monotonic()
    assert failure(filled, sql, deadline_ms=100).kind == "deadline"
    assert time.monotonic() - began < 5
    assert rows(filled, "select count(*) from t") == [[100]]


def test_an_interrupt_ends_a_run_from_another_thread(filled: Connection) -> None:
    interrupt = Interrupt()
    threading.Timer(0.05, interrupt.set).start()
    assert failure(filled, ENDLESS, interrupt=interrupt).kind == "interrupted"
    assert failure(filled, "select 1", interrupt=interrupt).kind == "interrupted"
    assert rows(filled, "select 1") == [[1]]


def test_other_threads_run_while_sqlite_does(filled: Connection) -> None:
    interrupt = Interrupt()
    thread = threading.Thread(target=lambda: failure(filled, ENDLESS, interrupt=interrupt))
    thread.start()
    turns = sum(1 for _ in range(100_000))
    interrupt.set()
    thread.join(10)
    assert (turns, thread.is_alive()) == (100_000, False)


def test_pages_follow_one_snapshot(filled: Connection, tmp_path: Path) -> None:
    reader = Connection(str(tmp_path / "tenant.db"), readonly=True)
    (page,) = reader.run([("select id from t", ())], page_rows_max=40, resumable=True)
    filled.run([("delete from t", ())])
    seen = json.loads(page.rows)
    while not page.complete:
        page = reader.next_page(page_rows_max=40)
        seen += json.loads(page.rows)
    assert [row[0] for row in seen] == list(range(1, 101))
    assert not reader.suspended
    assert rows(reader, "select count(*) from t") == [[0]]
    reader.close()


def test_a_suspended_connection_runs_nothing_else_until_it_is_closed(filled: Connection) -> None:
    filled.run([("select id from t", ())], page_rows_max=40, resumable=True)
    assert failure(filled, "select 1").kind == "busy"
    filled.close_cursor()
    assert rows(filled, "select 1") == [[1]]
    with pytest.raises(RuntimeError):
        filled.next_page()


def test_a_page_ends_by_rows_or_bytes_and_says_that_more_is_left(filled: Connection) -> None:
    (page,) = filled.run([("select * from t", ())], page_rows_max=100)
    assert (page.row_count, page.complete) == (100, True)
    (page,) = filled.run([("select * from t", ())], page_rows_max=99)
    assert (page.row_count, page.complete) == (99, False)
    (page,) = filled.run([("select * from t", ())], page_bytes_max=200)
    assert 160 <= len(page.rows) <= 200
    (page,) = filled.run([("select id from t", ())], skip_rows=95)
    assert json.loads(page.rows) == [[96], [97], [98], [99], [100]]


def test_a_result_beyond_its_page_is_refused_and_undone_where_it_cannot_be_continued(filled: Connection) -> None:
    assert failure(filled, "delete from t returning id", page_rows_max=10).kind == "page"
    with pytest.raises(SqliteError) as failed:
        filled.run([("delete from t where id = 1", ()), ("select id from t", ())], page_rows_max=98, whole=True)
    assert (failed.value.kind, failed.value.statement) == ("page", 1)
    assert rows(filled, "select count(*) from t") == [[100]]
    assert filled.run([("select id from t", ())], page_rows_max=100, whole=True)[0].row_count == 100


def test_a_row_larger_than_pages_is_refused(tenant: Connection) -> None:
    assert failure(tenant, "select zeroblob(5000000), zeroblob(5000000)", page_bytes_max=1 << 20).kind == "page"


def test_changes_and_rowids_are_those_of_the_run(filled: Connection) -> None:
    first, second, third = filled.run(
        [("insert into t (b) values ('x'), ('y')", ()), ("select 1", ()), ("create table z (n)", ())]
    )
    assert [(r.changes, r.last_insert_rowid) for r in (first, second, third)] == [(2, 102), (0, 102), (0, 102)]
    assert filled.run([("select last_insert_rowid()", ())])[0].last_insert_rowid == 0


def test_a_cap_on_pages_stops_the_run_and_leaves_the_transaction(filled: Connection) -> None:
    filled.begin()
    filled.run([("insert into t values (1001, 'kept')", ())])
    error = failure(filled, "update t set b = b || hex(zeroblob(5000))", pages_max=filled.storage_bytes // 4096 + 10)
    assert (error.kind, error.transaction_lost) == ("page_cap", False)
    filled.commit()
    assert rows(filled, "select count(*), max(length(b)) from t") == [[101, 4]]
    assert filled.integrity_check() == []


def test_a_reader_refuses_to_write(filled: Connection, tmp_path: Path) -> None:
    reader = Connection(str(tmp_path / "tenant.db"), readonly=True)
    assert failure(reader, "delete from t").kind == "readonly"
    assert failure(reader, "create table x (n)").kind == "readonly"
    reader.close()


def test_a_plan_is_told_without_running(filled: Connection) -> None:
    scan = filled.estimate("select * from t as alias where b like '%7'")
    assert (scan.scans, scan.rows_read, scan.steps[0].table, scan.steps[0].access) == (True, 100, "t", "scan")
    lookup = filled.estimate("delete from t where id = ?")
    assert (lookup.scans, lookup.rows_read, lookup.readonly, lookup.parameter_count) == (False, 1, False, 1)
    unique = filled.estimate("select * from t where b = 'b7'")
    assert (unique.scans, unique.rows_read, unique.steps[0].index) == (False, 1, "sqlite_autoindex_t_1")
    join = filled.estimate("select * from t x cross join t y where y.b > x.b")
    assert (join.rows_read, len(join.steps)) == (100 + 100 * 25, 2)
    with pytest.raises(SqliteError):
        filled.estimate("delete from nowhere")
    assert rows(filled, "select count(*) from t") == [[100]]


def test_a_closed_connection_says_so(tenant: Connection) -> None:
    tenant.close()
    with pytest.raises(ValueError, match="closed"):
        tenant.run([("select 1", ())])


def test_short_runs_are_each_all_or_nothing_and_told_as_one(filled: Connection) -> None:
    insert = "insert into t values (?, ?)"
    filled.begin()
    done, taken, odd, none = filled.run_many(
        [
            ([(insert, (101, "x")), ('select count(*) as n, \'é\' as "a""b" from t', ())], 1_000, 10),
            ([(insert, (102, "y")), (insert, (101, "z"))], 1_000, 10),
            ([(insert, (102, "y")), ("select ?", (object(),))], 1_000, 10),
            ([(insert, (102, "y")), (insert, (103, "z"))], 1_000, 1),
        ],
        each_ms=5_000,
        total_ms=5_000,
    )
    filled.commit()
    assert isinstance(done, Ran) and done.row_count == 1 and len(done.fullscan_steps) == 2
    assert json.loads(b"[%b]" % done.content)[1]["rows"] == [[101, "é"]]
    assert list(json.loads(b"[%b]" % done.content)[1]["columns"]) == ["n", 'a"b']
    assert (done.rows_written, done.changes) == (2, 1)
    assert [(error.kind, error.statement) for error in (taken, odd, none) if isinstance(error, SqliteError)] == [
        ("constraint", 1),
        ("parameters", 1),
        ("rows_written", 0),
    ]
    assert rows(filled, "select count(*) from t") == [[101]]


def test_a_result_is_a_json_object_of_its_fields(filled: Connection) -> None:
    inserted, found = filled.run([("insert into t values (200, 'x')", ()), ("select id, b from t where id = 200", ())])
    assert json.loads(inserted.content) == {
        "columns": inserted.columns,
        "rows": json.loads(inserted.rows),
        "rowCount": 0,
        "rowsRead": inserted.rows_read,
        "rowsWritten": 2,
        "vmSteps": inserted.vm_steps,
        "fullscanSteps": 0,
        "changes": 1,
        "lastInsertRowid": 200,
    }
    told = json.loads(found.content)
    assert (told["columns"], told["rows"], told["lastInsertRowid"]) == (["id", "b"], [[200, "x"]], 0)
    assert (found.rows, found.last_insert_rowid) == (b'[[200,"x"]]', 200)
