"""Statements that want more than their own database: out of the file, into our bookkeeping, or all of the machine."""

import json
import random
import re
import resource
import threading
import time
from pathlib import Path

import pytest

from tovuk_sqlite_native import HIDDEN_PREFIX, Connection, SqliteError

ENDLESS = "with recursive n(i) as (select 1 union all select i + 1 from n) "
USAGE = f"{HIDDEN_PREFIX}usage"


@pytest.fixture
def guarded(tenant: Connection, tmp_path: Path) -> Connection:
    (tmp_path / "secret.db").write_bytes(b"")
    tenant.run(
        [
            (f"create table {USAGE} (lease text primary key, units int)", ()),
            (f"insert into {USAGE} values ('l', 7)", ()),
        ],
        trusted=True,
    )
    tenant.run([("create table t (id integer primary key, b text)", ()), ("insert into t values (1, 'x')", ())])
    return tenant


OUTSIDE = [
    "attach database '{other}' as other",
    "attach ':memory:' as other",
    "detach main",
    "vacuum",
    "vacuum into '{other}.copy'",
    "vacuum main into 'file:{other}.copy?mode=rwc'",
    "select load_extension('{other}')",
    "select readfile('{other}')",
    "select writefile('{other}', 'x')",
    "select edit('x')",
    "select fts3_tokenizer('simple')",
    "create virtual table x using dbstat",
    "select * from dbstat",
    "select * from sqlite_dbpage",
    "update sqlite_dbpage set data = zeroblob(4096)",
    "create virtual table x using csv(filename = '{other}')",
    "create virtual table x using fts5(a, tokenize = 'nonexistent {other}')",
    "create temp table x (n)",
    "create temporary view x as select 1",
    "create table temp.x (n)",
    "create view temp.x as select 1",
    "create trigger temp.x after insert on main.t begin select 1; end",
    "create virtual table temp.x using fts5(a)",
    "pragma temp_store_directory = '{folder}'",
    "pragma data_store_directory = '{folder}'",
    "pragma writable_schema = 1",
    "pragma journal_mode = off",
    "pragma journal_mode = delete",
    "pragma synchronous = off",
    "pragma locking_mode = exclusive",
    "pragma mmap_size = 1000000000",
    "pragma max_page_count = 1000000000",
    "pragma cache_size = 1000000000",
    "pragma cache_spill = 0",
    "pragma hard_heap_limit = 1",
    "pragma soft_heap_limit = 1",
    "pragma threads = 8",
    "pragma wal_checkpoint(truncate)",
    "pragma wal_autocheckpoint = 1",
    "pragma trusted_schema = 1",
    "pragma cell_size_check = 0",
    "pragma query_only = 0",
    "pragma foreign_keys = off",
    "pragma ignore_check_constraints = 1",
    "pragma page_size = 512",
    "pragma encoding = 'UTF-16'",
    "pragma auto_vacuum = 0",
    "pragma incremental_vacuum",
    "pragma schema_version = 5",
    "pragma busy_timeout = 1",
    "pragma database_list",
    "pragma secure_delete = 0",
    "pragma shrink_memory",
    "pragma legacy_alter_table = 1",
    "begin",
    "commit",
    "rollback",
    "end transaction",
    "savepoint s",
    "release s",
    "rollback to s",
    "delete from sqlite_schema",
    "insert into sqlite_master values ('table', 'x', 'x', 2, 'create table x (n)')",
    "update sqlite_schema set sql = 'x'",
    "create table sqlite_x (n)",
]
OURS = [
    "select * from {usage}",
    "select units from main.{usage}",
    'select "units" from "{upper}"',
    "select (select max(units) from {usage}) from t",
    "select 1 from t where exists (select 1 from {usage})",
    "insert into {usage} values ('x', 1)",
    "insert into t select units, lease from {usage}",
    "update {usage} set units = 0",
    "delete from {usage}",
    "replace into {usage} values ('l', 0)",
    "drop table {usage}",
    "drop table if exists main.{usage}",
    "alter table {usage} rename to mine",
    "alter table {usage} add column x",
    "alter table t rename to {usage}2",
    "create table {usage}2 (n)",
    "create table {usage} (n)",
    "create view {usage}2 as select 1",
    "create index {usage}_i on t (b)",
    "create index i on {usage} (units)",
    "create trigger {usage}_t after insert on t begin select 1; end",
    "create trigger tr after insert on {usage} begin select 1; end",
    "drop index sqlite_autoindex_{usage}_1",
    "pragma table_info({usage})",
    "pragma table_xinfo('{usage}')",
    "pragma index_list({usage})",
    "pragma index_info(sqlite_autoindex_{usage}_1)",
    "pragma foreign_key_list({usage})",
    "select * from pragma_table_info('{usage}')",
    "analyze {usage}",
    "reindex {usage}",
    "create virtual table x using fts5(units, content='{usage}', content_rowid='rowid')",
    "explain select * from {usage}",
    "explain query plan select * from {usage}",
]


def refused_or_nothing(connection: Connection, sql: str) -> None:
    """The statement fails, or its answer is empty."""
    try:
        (result,) = connection.run([(sql, ())], deadline_ms=2_000)
    except SqliteError as error:
        kind, told = error.kind, b"[]"
    else:
        kind, told = "syntax", result.rows
    assert (kind in ("denied", "syntax", "runtime"), told) == (True, b"[]"), sql


@pytest.mark.parametrize("sql", OUTSIDE)
def test_nothing_outside_of_the_file_is_reached(guarded: Connection, tmp_path: Path, sql: str) -> None:
    before = settings(guarded)
    with pytest.raises(SqliteError) as refused:
        guarded.run([(sql.format(other=tmp_path / "secret.db", folder=tmp_path), ())])
    assert refused.value.kind in ("denied", "syntax", "runtime"), refused.value.message
    assert not guarded.in_transaction
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "secret.db",
        "tenant.db",
        "tenant.db-shm",
        "tenant.db-wal",
    ]
    assert (tmp_path / "secret.db").read_bytes() == b""
    assert settings(guarded) == before


def settings(connection: Connection) -> list[bytes]:
    names = (
        "journal_mode",
        "synchronous",
        "foreign_keys",
        "page_size",
        "encoding",
        "max_page_count",
        "trusted_schema",
        "query_only",
    )
    return [result.rows for result in connection.run([(f"pragma {name}", ()) for name in names], trusted=True)]


@pytest.mark.parametrize("sql", OURS)
def test_our_own_tables_do_not_exist_for_a_tenant(guarded: Connection, sql: str) -> None:
    refused_or_nothing(guarded, sql.format(usage=USAGE, upper=USAGE.upper()))
    if sql.startswith("create virtual"):
        refused_or_nothing(guarded, "select * from x")
        refused_or_nothing(guarded, "insert into x(x) values ('rebuild')")
    (usage, schema) = guarded.run(
        [
            (f"select * from {USAGE}", ()),
            ("select count(*) from sqlite_schema where name like '\\_tovuk%' escape '\\'", ()),
        ],
        trusted=True,
    )
    assert usage.rows == b'[["l",7]]'
    assert schema.rows == b"[[1]]"


@pytest.mark.parametrize(
    "sql",
    [
        "select name, tbl_name, sql from sqlite_schema",
        "select * from main.sqlite_master order by name desc",
        "select * from sqlite_schema order by rowid desc",
        "select * from sqlite_schema where rowid = 1",
        "select * from sqlite_schema where rowid between 0 and 5",
        "select group_concat(name) from sqlite_schema",
        "with s as (select * from sqlite_schema) select * from s a, s b",
        "insert into t (b) select name from sqlite_schema returning b",
        "select * from pragma_table_list",
        "pragma table_list",
        "pragma integrity_check",
        "select * from sqlite_schema a join sqlite_schema b on a.rowid = b.rowid",
    ],
)
def test_no_list_of_the_schema_shows_them(guarded: Connection, sql: str) -> None:
    (result,) = guarded.run([(sql, ())])
    assert HIDDEN_PREFIX not in result.rows.decode().lower()


def test_the_schema_is_counted_without_them(guarded: Connection) -> None:
    counts = guarded.run(
        [
            ("select count(*) from sqlite_schema", ()),
            ("select count(name) from sqlite_schema", ()),
            ("select max(rowid) > 0 from sqlite_schema", ()),
            ("select count(*) from sqlite_temp_schema", ()),
        ]
    )
    assert [count.rows for count in counts] == [b"[[1]]", b"[[1]]", b"[[1]]", b"[[0]]"]


@pytest.mark.parametrize("module", ["fts5(a, b)", "rtree(id, a, b)"])
def test_a_virtual_table_is_renamed_with_its_shadow_tables_beside_them(guarded: Connection, module: str) -> None:
    guarded.run([(f"create virtual table v using {module}", ())])
    guarded.run([("insert into v (a, b) values (1, 2)", ()), ("alter table v rename to w", ())])
    names = json.loads(guarded.run([("select name from sqlite_schema where name <> 't'", ())])[0].rows)
    assert len(names) > 3 and all(name == "w" or "w_" in name for (name,) in names)
    assert guarded.run([("select a, b from w", ())])[0].row_count == 1
    with pytest.raises(SqliteError):
        guarded.run([(f"alter table w rename to {USAGE}2", ())])
    assert guarded.run([(f"select units from {USAGE}", ())], trusted=True)[0].rows == b"[[7]]"
    assert guarded.integrity_check() == []


@pytest.mark.parametrize(
    "sql",
    [
        "create table temp.x (n)",
        "create trigger temp.x after insert on main.t begin select 1; end",
        "create virtual table temp.x using fts5(a)",
        "pragma temp.user_version = 1",
        "pragma temp.recursive_triggers = 1",
    ],
)
def test_what_names_the_temporary_schema_is_denied(guarded: Connection, sql: str) -> None:
    with pytest.raises(SqliteError, match="temporary objects are not allowed") as refused:
        guarded.run([(sql, ())])
    assert (refused.value.kind, refused.value.name) == ("denied", "SQLITE_AUTH")


def test_they_stay_hidden_after_the_schema_is_read_again(guarded: Connection, tmp_path: Path) -> None:
    guarded.run([("create table more (n)", ()), ("alter table t rename to renamed", ()), ("drop table more", ())])
    other = Connection(str(tmp_path / "tenant.db"))
    for connection in (guarded, other):
        assert json.loads(connection.run([("select name from sqlite_schema", ())])[0].rows) == [["renamed"]]
        assert connection.run([(f"select units from {USAGE}", ())], trusted=True)[0].rows == b"[[7]]"
    assert other.integrity_check() == []
    other.close()


def test_analyze_and_reindex_of_everything_pass_over_them(guarded: Connection) -> None:
    guarded.run([("create index i on t (b)", ()), ("analyze", ()), ("reindex", ())])
    assert guarded.run([("select tbl from sqlite_stat1", ())], trusted=True)[0].rows == b'[["t"]]'


@pytest.mark.parametrize(
    ("sql", "kinds"),
    [
        ("select " + ", ".join(["randomblob(9000000)"] * 400), {"memory", "too_big"}),
        (
            ENDLESS + "select group_concat(hex(randomblob(1000))) from n",
            {"deadline"},
        ),
        (
            (
                "with recursive n(i, x) as (select 1, randomblob(1000000) union all select i + 1, x from n)"
                " select * from n order by x, i"
            ),
            {"temp_full", "deadline"},
        ),
        (
            (
                "with recursive n(x) as (select zeroblob(4000000) union all select x from n)"
                " select json_group_array(hex(x)) from n"
            ),
            {"memory", "too_big"},
        ),
        ("select printf('%.*c', 2000000000, 'x')", {"too_big", "memory"}),
        ("select replace(hex(zeroblob(4000000)), '0', hex(zeroblob(4000000)))", {"too_big", "memory"}),
        ("select " + "1 + (" * 2_000 + "1" + ")" * 2_000, {"syntax"}),
        ("select 1" + " union all select 1" * 5_000, {"syntax"}),
        ("select " + "a" * 200_000, {"too_big"}),
        (
            ENDLESS + "select * from n a, n b where a.i = -1",
            {"deadline", "memory", "temp_full"},
        ),
        ("select like('" + "%a" * 2_000 + "b', hex(zeroblob(1000000)))", {"deadline", None}),
    ],
    ids=range(11),
)
def test_no_statement_takes_all_of_the_machine(tmp_path: Path, sql: str, kinds: set[str | None]) -> None:
    bounded = Connection(str(tmp_path / "small.db"), create=True, memory_bytes_max=64 << 20, temp_bytes_max=200 << 20)
    peak = resident_bytes()
    began = time.monotonic()
    kind: str | None = None
    try:
        bounded.run([(sql, ())], deadline_ms=3_000)
    except SqliteError as error:
        kind = error.kind
    assert kind in kinds
    assert time.monotonic() - began < 20
    assert resident_bytes() - peak < 256 << 20
    assert bounded.run([("select 1", ())])[0].rows == b"[[1]]"
    bounded.close()


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


WORDS = """
select insert into update delete from where group by having order limit offset join left cross on using values set
create table index unique trigger view virtual drop alter rename to column add primary key references check default
not null is like glob match between and or in exists case when then else end cast as collate nocase with recursive
union all intersect except distinct returning conflict do nothing replace ignore rollback abort fail begin commit
savepoint release attach detach pragma vacuum explain query plan analyze reindex window over partition rows range
unbounded preceding following current row filter strict without rowid generated always stored count sum min max avg
abs hex length substr json_extract json_each json_group_array group_concat printf randomblob zeroblob row_number lag
typeof instr replace char unicode date strftime t u a b id x _tovuk_usage sqlite_schema fts5 rtree
( ) ( ) , , . ; * + - / % || = <> < > <= >= -> ->> ~ & | << >> 0 1 -1 2.5 1e400 9223372036854775807 'x' '' "a" [b]
`c` x'00' NULL ? :p @q $r ?5 -- /* */ ' " é 🐘 \\
"""
GRAMMAR = [*WORDS.split(), "\0", ""]
#: Rewritten until nothing is in angle brackets; deep down the first line of a rule only.
RULES = {
    "statement": """
        <select>
        <select>
        insert <or> into t (a, b) values (<e>, <e>)
        insert into t <select>
        insert into t (id, a) values (<e>, 1) on conflict do update set a = <e> returning *
        update <or> t set a = <e> where <e>
        delete from <table> where <e>
        create table if not exists <name> (a <constraint>, b default (<e>))
        create <unique> index if not exists <name>_i on t (<e>) where <e>
        create view <name> as <select>
        create trigger <name>_t after <event> on t begin insert into u values (1); <select>; end
        create virtual table <name> using fts5(a)
        insert into f values (<e>)
        select * from f where f match <e>
        drop <kind> if exists <name>
        alter table n1 <change>
        with recursive r(i) as (select 1 union all select i + 1 from r where i < <e>) <select>
        explain <select>
        explain query plan <statement>
        <pragma>""",
    "select": """
        select * from t
        select <what> from <source> <where> <tail>
        select <what> from <source> <where> <tail>
        <select> <set> <select>""",
    "what": "*|<e>|count(*)|distinct a, b|sum(a) over (order by id)|<e>, <e>|group_concat(<e>)",
    "source": "t|u|t join u using (id)|t left join u on t.a = u.id|t, t as s|json_each('[1,2]')|(<select>) as q",
    "where": "|where <e>",
    "tail": "||group by <e>|group by <e> having <e>|order by <e> desc|limit <e>|limit 3 offset <e>",
    "set": "union|union all|except|intersect",
    "e": """
        a
        b
        id
        1
        -1
        2.5
        'x'
        x'00'
        null
        9223372036854775807
        1e400
        ''
        (<e> <operator> <e>)
        <function>(<e>)
        <function>(<e>, <e>)
        case when <e> then <e> else <e> end
        cast(<e> as <type>)
        (<e> in (<e>, <e>))
        (<e> between <e> and <e>)
        exists (<select>)
        (select <e> from t)""",
    "operator": "+|-|*|/|%|'||'|=|<>|>=|is|&|like|glob|->>|collate nocase =",
    "function": "abs|hex|length|typeof|quote|lower|unicode|date|coalesce|substr|instr|json_array|printf|nullif|round",
    "type": "int|text|real|blob|numeric",
    "or": "|or ignore|or replace|or rollback|or fail",
    "table": "t|u|n1|sqlite_schema|_tovuk_usage",
    "name": "n1|n2|t|f",
    "constraint": "int|unique|text primary key|not null|check (a > 0)",
    "unique": "|unique",
    "event": "insert|update|delete",
    "kind": "table|view|index|trigger",
    "change": "add column c|rename to n2|drop column b|rename a to z",
    "pragma": "pragma table_list|pragma integrity_check|analyze|reindex|pragma user_version = 3|pragma optimize",
}


def written(chance: random.Random, rule: str, depth: int = 0) -> str:
    text = RULES[rule]
    choices = [line.strip() for line in text.split("\n" if "\n" in text else "|")]
    choices = [line for line in choices if line or "\n" not in text]
    chosen = choices[0] if depth > 7 else chance.choice(choices)
    return re.sub("<([a-z]+)>", lambda found: written(chance, found[1], depth + 1), chosen)


def fuzzed(chance: random.Random) -> str:
    """Half of them sound, the others spoilt here and there."""
    words = written(chance, "statement").split(" ")
    if chance.random() < 0.1:
        words = chance.choices(GRAMMAR, k=chance.randint(1, 30))
    for _ in range(chance.choice((0, 0, 0, 1, 1, 2, 4))):
        at = chance.randrange(len(words) + 1)
        words[at : at + chance.randrange(3)] = chance.choices(GRAMMAR, k=chance.randrange(3))
    text = " ".join(words)
    if chance.random() < 0.05:
        at = chance.randrange(len(text) + 1)
        text = text[:at] + chr(chance.randrange(1, 0x500)) + text[at:]
    return text


def test_ten_thousand_fuzzed_texts_are_answered_without_a_crash_or_a_leak(guarded: Connection) -> None:
    chance = random.Random(2026)
    guarded.run([("create table u (id integer primary key)", ()), ("alter table t add column a int", ())])
    answered = {"result": 0}
    settled = 0
    for turn in range(10_000):
        sql = fuzzed(chance)
        if turn % 20 == 0:
            guarded.begin()
        try:
            guarded.run([(sql, ())], deadline_ms=50, rows_read_max=10_000, rows_written_max=1_000)
            answered["result"] += 1
        except SqliteError as error:
            answered[error.kind] = answered.get(error.kind, 0) + 1
        assert guarded.in_transaction, sql
        if turn % 20 == 19:
            guarded.rollback()
        if turn == 3_000:
            settled = resident_bytes()
    assert resident_bytes() - settled < 16 << 20
    assert answered["result"] > 1_500
    assert answered["syntax"] > 2_000
    assert guarded.run([(f"select * from {USAGE}", ())], trusted=True)[0].rows == b'[["l",7]]'
    assert guarded.integrity_check() == []


def test_connections_of_many_threads_do_not_disturb_one_another(tmp_path: Path) -> None:
    path = str(tmp_path / "shared.db")
    writer = Connection(path, create=True)
    writer.run([("create table t (n int)", ()), ("insert into t values (0)", ())])
    wrong: list[object] = []
    done = threading.Event()

    def read() -> None:
        reader = Connection(path, readonly=True)
        last = -1
        while not done.is_set():
            (a, b) = reader.run([("select n from t", ()), ("select sum(n) from t", ())])
            if a.rows != b.rows or int(a.rows[2:-2]) < last:
                wrong.append((a.rows, b.rows, last))
            last = int(a.rows[2:-2])
        reader.close()

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(300):
        writer.run([("update t set n = n + 1", ())])
    done.set()
    for thread in threads:
        thread.join(20)
    assert wrong == []
    assert writer.run([("select n from t", ())])[0].rows == b"[[300]]"
    writer.close()
