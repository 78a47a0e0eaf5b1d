import contextlib
import random
from typing import Any

import pytest

from tovuk_kit.errors import TovukError
from tovuk_sqlite.store.base import Charge, Exhausted, NotARead
from tovuk_sqlite.store.guard import VISIBLE_SCHEMA, visible

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
    "pragma table_list",
    "select * from pragma_table_list",
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
    "select * from sqlite_temp_master",
    "select * from temp.sqlite_master",
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


@pytest.mark.parametrize(
    "sql",
    ["select 'sqlite_master'", "select 1 -- sqlite_master", "select /* sqlite_master */ 1", "select my_sqlite_master"],
)
def test_a_name_in_text_and_comments_stays(sql: str) -> None:
    assert visible(sql) == sql
    assert visible("select * from SQLITE_MASTER") == f"select * from {VISIBLE_SCHEMA}"


def test_a_statement_of_ours_does_not_lend_its_rights_to_the_same_text_of_the_tenant(tables: Any) -> None:
    tables.writer.usage()
    for sql in ("SELECT store, epoch, lease, units FROM _tovuk_used", "ROLLBACK", "COMMIT", "BEGIN IMMEDIATE"):
        with pytest.raises(TovukError) as raised:
            tables.write(sql)
        assert raised.value.code == "sqlite_statement_denied"


def test_every_fuzzed_string_is_answered(tables: Any) -> None:
    chance = random.Random(4)
    words = (WORDS + " \x00 é").split(" ")
    for _ in range(1_500):
        sql = " ".join(chance.choices(words, k=chance.randint(1, 12)))
        with contextlib.suppress(TovukError, Exhausted, NotARead):
            tables.write(sql, rows_written=100)
    assert tables.rows("pragma integrity_check") == b'[["ok"]]'
