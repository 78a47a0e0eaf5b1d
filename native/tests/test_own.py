"""Files of our own: any statement, nothing metered or hidden."""

import pytest

from tovuk_sqlite_native import OwnConnection, SqliteError


@pytest.fixture
def own(tmp_path):
    connection = OwnConnection(str(tmp_path / "own.sqlite"))
    yield connection
    connection.close()


def failed(connection, sql, params=()):
    with pytest.raises(SqliteError) as raised:
        connection.rows(sql, params)
    return raised.value


def test_a_script_runs_to_its_end_and_answers_all_rows(own):
    assert own.rows(
        "create table t (a); insert into t values (1), (2); select a from t; select max(a) from t;", ()
    ) == [
        (1,),
        (2,),
        (2,),
    ]
    assert own.rows("-- nothing\n", ()) == []


def test_what_a_script_did_before_it_failed_stays_in_the_transaction(own):
    own.rows("begin; create table t (a)", ())
    assert failed(own, "insert into t values (1); insert into nowhere values (1)").kind == "syntax"
    assert (own.in_transaction, own.rows("select a from t", ())) == (True, [(1,)])
    own.rows("rollback", ())
    assert failed(own, "select a from t").message == "no such table: t"


def test_every_value_comes_back_as_it_was_bound(own):
    values = (None, True, -(2**63), 0.1, float("inf"), "ä\x00b", "", b"\x00\xff", b"")
    assert own.rows(f"select {', '.join('?' * len(values))}", values) == [values]
    assert failed(own, "select ?", ()).kind == "parameters"
    assert failed(own, "select cast(x'ff' as text)").kind == "text"


def test_a_kept_statement_sees_a_schema_that_has_changed(own):
    own.rows("create table t (a)", ())
    for column in ("b", "c"):
        own.rows("insert into t default values", ())
        own.rows("delete from t where rowid > 1", ())
        assert len(own.rows("select * from t", ())[0]) == ("b", "c").index(column) + 1
        own.rows(f"alter table t add column {column}", ())


def test_a_setting_holds_each_time_it_is_made(own):
    for value in (1, 0, 1):
        own.rows(f"pragma query_only = {value}", ())
        assert own.rows("pragma query_only", ()) == [(value,)]


def test_commits_that_wrote_are_told_with_the_frames_of_the_wal(own):
    told = []
    own.rows("pragma journal_mode = wal", ())
    own.set_wal_hook(lambda connection, schema, frames: told.append((connection is own, schema, frames)) or 0)
    own.rows("create table t (a)", ())
    own.rows("begin; insert into t values (1); insert into t values (2)", ())
    assert len(told) == 1
    own.rows("commit", ())
    own.rows("select * from t", ())
    assert told[1][:2] == (True, "main") and told[1][2] > told[0][2] > 0
    own.set_wal_hook(None)
    own.rows("delete from t", ())
    assert len(told) == 2


def test_no_other_file_is_reached(own, tmp_path):
    assert (
        failed(own, f"attach '{tmp_path / 'other.sqlite'}' as other").message == "too many attached databases - max 0"
    )
    assert failed(own, f"vacuum into '{tmp_path / 'other.sqlite'}'")
    assert not (tmp_path / "other.sqlite").exists()


def test_a_closed_connection_refuses_and_leaves_no_wal(own, tmp_path):
    own.rows("pragma journal_mode = wal; create table t (a)", ())
    assert (tmp_path / "own.sqlite-wal").exists()
    own.close()
    own.close(True)
    assert not (tmp_path / "own.sqlite-wal").exists()
    assert failed(own, "select 1").kind == "io"


def test_one_that_waits_in_vain_for_a_lock_is_busy(own, tmp_path):
    own.rows("begin immediate", ())
    other = OwnConnection(str(tmp_path / "own.sqlite"), busy_timeout_ms=1)
    assert failed(other, "begin immediate").kind == "busy"
    other.close()


def test_a_file_that_is_no_database_is_corrupt(tmp_path):
    (tmp_path / "a").write_bytes(b"a text, and a long one" * 100)
    connection = OwnConnection(str(tmp_path / "a"))
    assert failed(connection, "select * from sqlite_schema").kind == "corrupt"
    with pytest.raises(SqliteError) as raised:
        OwnConnection(str(tmp_path / "no" / "folder"))
    assert raised.value.kind == "io"
