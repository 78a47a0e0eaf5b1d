"""Rows read and written by forty statements, each derived by hand from the rule in native/README.md.

Read: a cursor comes to rest on an entry.
Written: an entry is put into a table or index of the file, or a row is removed from a table.
"""

from pathlib import Path
from typing import NamedTuple

import pytest

from tovuk_sqlite_native import Connection, SqliteError

COUNT = "with recursive n(i) as (select 1 union all select i + 1 from n where i < {last}) "
SCHEMA = [
    "create table t (id integer primary key, a int, b text)",  # ids 1 to 100; a = id % 10; b is not indexed
    "create index t_a on t (a)",
    "create table u (id integer primary key, email text unique)",  # ids 1 to 10, an index for the unique column
    "create table w (k text primary key, v int) without rowid",  # k1 to k10, one b-tree only
    "create table log (n)",
    "create table hot (n)",
    "create trigger hot_log after insert on hot begin insert into log values (new.n); end",
    "create table parent (id integer primary key)",
    "create table child (id integer primary key, parent int references parent)",
    "create virtual table f using fts5 (body)",
    "create table numbered (id integer primary key autoincrement, n)",
    "create table part (n)",
    "create index part_big on part (n) where n > 5",
    COUNT.format(last=100) + "insert into t select i, i % 10, 'b' || i from n",
    COUNT.format(last=10) + "insert into u select i, 'e' || i from n",
    COUNT.format(last=10) + "insert into w select 'k' || i, i from n",
    "insert into parent values (1), (2)",
    "insert into f values ('one two'), ('two three'), ('four')",
]


class Case(NamedTuple):
    sql: str
    rows_read: int
    rows_written: int
    derivation: str


CASES = [
    Case("select * from t where id = 5", 1, 0, "one row, found by its rowid"),
    Case("select * from t where id = 500", 0, 0, "the seek comes to rest on nothing"),
    Case("select * from t", 100, 0, "every row"),
    Case("select count(*) from t", 100, 0, "count(*) walks one b-tree whole: 100 entries of t_a"),
    Case("select b from t where b = 'b7'", 100, 0, "no index on b: every row is read to find one"),
    Case(
        "select b from t where a = 3",
        11,
        0,
        "10 entries of t_a and the first entry with a = 4, which ends the range; their rows are part of them",
    ),
    Case("select b from t where a = 9", 10, 0, "10 entries at the end of t_a: none follows"),
    Case("select b from t where a = 11", 0, 0, "no entry at or after 11"),
    Case("select b from t where a between 2 and 4", 31, 0, "30 entries and the one that ends the range"),
    Case("select count(*) from t where a = 3", 11, 0, "counted over a range, entry by entry, and the one that ends it"),
    Case("select * from t order by b", 200, 0, "100 rows into the sorter, 100 out of it"),
    Case("select * from t order by id", 100, 0, "the table is in this order already"),
    Case("select a from t order by a", 100, 0, "so is t_a, which holds all that is asked"),
    Case("select * from t order by id desc limit 3", 3, 0, "the last row and two steps back"),
    Case("select * from t limit 5 offset 10", 15, 0, "rows passed over are read"),
    Case("select max(a) from t", 1, 0, "the last entry of t_a"),
    Case("select min(b) from t", 100, 0, "no index on b"),
    Case("select a, count(*) from t group by a", 100, 0, "t_a is in the groups' order"),
    Case("select b, count(*) from t group by b", 200, 0, "100 rows into the sorter, 100 out of it"),
    Case(
        "select * from t where id in (1, 2, 3)", 6, 0, "the list is a temporary table: 3 steps through it, 3 rows found"
    ),
    Case("select count(*) from u cross join t on t.id = u.id", 20, 0, "10 rows of u, and for each its row of t"),
    Case("select count(*) from t, u", 1010, 0, "10 rows of u, and for each of them 100 entries of t_a"),
    Case("select v from w where k = 'k3'", 1, 0, "a table without rowids is its primary key's b-tree"),
    Case(COUNT.format(last=10) + "select * from n", 10, 0, "each of 10 rows is taken out of the queue"),
    Case(
        "select * from f where f match 'two'", 2, 0, "two rows of the virtual table; its shadow tables are part of them"
    ),
    Case("insert into t values (101, 1, 'x')", 0, 2, "the row and its entry of t_a; that 101 is free is no read"),
    Case("insert or ignore into u (email) values ('e1')", 1, 0, "the entry that is in the way is read"),
    Case("insert into log select a from t", 100, 100, "read each, write each; log has no index"),
    Case("insert into log values (1) returning n", 1, 1, "what RETURNING answers is read back from a temporary table"),
    Case("insert into numbered (n) values (1)", 0, 2, "the row, and AUTOINCREMENT's own row in sqlite_sequence"),
    Case("insert into part values (1), (9)", 0, 3, "two rows; only one of them belongs into the partial index"),
    Case("insert into child values (9, 2)", 1, 1, "the parent row is looked up and read"),
    Case("insert into hot values (1)", 0, 2, "the row, and the row the trigger writes"),
    Case("insert into f values ('five')", 0, 1, "one row of the virtual table, whatever its shadow tables take"),
    Case("update t set b = 'z' where id = 5", 1, 1, "the row in its place; t_a does not hold b"),
    Case(
        "update t set a = a + 1 where id = 5",
        1,
        2,
        "the row and its new entry of t_a; taking out the old one is part of it",
    ),
    Case(
        "update t set a = 77 where a = 3",
        31,
        20,
        "11 entries of t_a, 10 rowids from a temporary table, 10 rows found again; 10 rows, 10 new entries",
    ),
    Case("delete from t where a = 3", 11, 10, "11 entries of t_a; 10 rows, their index entries not counted again"),
    Case("delete from t", 0, 100, "emptied at once: nothing is read, every row is written"),
    Case("create index t_b on t (b)", 200, 100, "100 rows into the sorter, 100 out of it; 100 entries"),
]


@pytest.fixture(autouse=True)
def schema(tenant: Connection) -> None:
    tenant.run([(sql, ()) for sql in SCHEMA])


def test_there_are_forty_statements() -> None:
    assert len({case.sql for case in CASES}) == 40


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.sql)
def test_rows_are_counted_as_derived_by_hand(tenant: Connection, case: Case) -> None:
    (result,) = tenant.run([(case.sql, ())])
    assert (result.rows_read, result.rows_written) == (case.rows_read, case.rows_written), case.derivation


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.sql)
def test_a_budget_of_just_the_counted_rows_suffices_and_one_less_stops(tenant: Connection, case: Case) -> None:
    before = content(tenant)
    for meter, rows in (("rows_read", case.rows_read), ("rows_written", case.rows_written)):
        if rows == 0:
            continue
        with pytest.raises(SqliteError) as stopped:
            tenant.run([(case.sql, ())], **{f"{meter}_max": rows - 1})  # type: ignore[arg-type]
        assert stopped.value.kind == meter
        assert meter != "rows_read" or stopped.value.rows_read == rows - 1
        assert content(tenant) == before
    tenant.run([(case.sql, ())], rows_read_max=case.rows_read, rows_written_max=case.rows_written)
    assert tenant.integrity_check() == []


def content(tenant: Connection) -> list[bytes]:
    tables = ("sqlite_schema", "t", "u", "w", "log", "hot", "child", "part", "numbered", "f")
    return [result.rows for result in tenant.run([(f"select * from {table}", ()) for table in tables])]


def test_reading_the_schema_for_itself_is_not_counted(tmp_path: Path) -> None:
    first = Connection(str(tmp_path / "shared.db"), create=True)
    first.run([("create table t (n)", ()), ("insert into t values (1)", ()), ("analyze", ())])
    second = Connection(str(tmp_path / "shared.db"))
    (result,) = second.run([("select * from t", ())])
    assert result.rows_read == 1
    first.close()
    second.close()
