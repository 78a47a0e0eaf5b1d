"""What is done at once says what the long way says, is counted alike, and never holds others up."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from tovuk_kit.errors import TovukError
from tovuk_sqlite.store.base import NotShort, Statement

ENDLESS = "select {} from (with recursive c(x) as (select 1 union all select x + 1 from c) select count(*) from c)"

MANY = "insert into t with recursive c(x) as (select 10 union all select x + 1 from c where x < {}) select x, x from c"


@pytest.fixture
async def db(node: Any) -> Any:
    """A database that was read and written before, the long way."""
    target = await node.create()
    await node.long(target, "create table t(a integer primary key, b)")
    await node.long(target, "insert into t values (1, 'x'), (2, 'y')")
    await node.long(target, "select 1")
    return target


async def test_a_database_that_nobody_has_used_yet_is_read_the_long_way(node: Any) -> None:
    target = await node.create()
    for sql in ("select 1", "create table t(a)"):
        assert isinstance(await node.short(target, sql), NotShort)


@pytest.mark.parametrize(
    ("sql", "params"),
    [
        ("select * from t where a = ?", (1,)),
        ("select :a, b'", {"a": 1}),
        ("select nothing from t", ()),
        ("insert into t values (1, 'taken')", ()),
        ("update t set b = 'z' where a = 2 returning b", ()),
        ("select ?", (1, 2)),
        ("", ()),
    ],
)
async def test_both_ways_say_the_same(node: Any, db: Any, sql: str, params: Any) -> None:
    short = await node.short(db, sql, params)
    (long,) = await asyncio.gather(node.long(db, sql, params), return_exceptions=True)
    if isinstance(short, TovukError):
        assert (short.code, short.params) == (long.code, long.params)
    else:
        for answer in (short, long):
            assert answer.pop("durationMs") >= 0
        assert short == long


INSERT = "insert into t values (?, ?)"

BATCHES = [
    [(INSERT, (3, "c")), ("select * from t", ()), ("update t set b = 'z' where a = 2 returning b", ())],
    [("select b from t where a = ?", (1,)), ("select :a, b'", {"a": 1})],
    [("select b from t where a = ?", (1,)), ("select count(*) as n from t", ())],
    [("select b from t", ()), ("select nothing from t", ())],
    [(INSERT, (3, "c")), (INSERT, (3, "taken")), ("select 1", ())],
    [(INSERT, (3, "c")), ("select ?", (1, 2))],
    [("select 1", ()), ("", ())],
    [("insert into t(b) values ('c')", ())],
    [(INSERT, (index, None)) for index in range(10, 510)],
]


@pytest.mark.parametrize("sent", BATCHES)
async def test_both_ways_say_the_same_of_a_batch(node: Any, db: Any, sent: Any) -> None:
    other = await node.create("OTHER")
    await node.long(other, "create table t(a integer primary key, b)")
    await node.long(other, "insert into t values (1, 'x'), (2, 'y')")
    statements = [Statement(*one) for one in sent]
    short = await node.short_batch(db, *statements)
    (long,) = await asyncio.gather(node.long_batch(other, *statements), return_exceptions=True)
    if isinstance(short, TovukError):
        assert (short.code, short.params) == (long.code, long.params)
    else:
        for answer in (short, long):
            assert answer.pop("durationMs") >= 0
        assert short == long
        assert short["totals"]["statements"] == len(sent)
    every = [await node.long(target, "select * from t") for target in (db, other)]
    assert every[0]["rows"] == every[1]["rows"]


async def test_batches_share_a_commit_and_nothing_else(node: Any, db: Any) -> None:
    def batch(index: int) -> list[Statement]:
        # Each third one breaks a constraint at its end.
        last = 1 if index % 3 == 0 else 1_000 + index
        return [Statement(INSERT, (100 + index, "first")), Statement(INSERT, (last, "last"))]

    sent = [node.short_batch(db, *batch(index)) for index in range(60)]
    sent += [node.short(db, "insert into t(b) values ('one')") for _ in range(20)]
    answers = await asyncio.gather(*sent)
    failed = [answer for answer in answers if isinstance(answer, TovukError)]
    assert {(error.code, error.params["statement"]) for error in failed} == {("sqlite_constraint_failed", "1")}
    assert len(failed) == 20
    counted = await node.long(db, "select b, count(*) from t group by b order by b")
    assert counted["rows"] == [["first", 40], ["last", 40], ["one", 20], ["x", 1], ["y", 1]]
    # The two rows that the fixture wrote are counted as well.
    await node.until_metered("sqlite_rows_written", 2 + 80 + 20)


async def test_a_batch_that_is_not_short_is_undone_and_then_known(
    node: Any, db: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = [Statement(INSERT, (3, "c")), Statement(f"update t set b = ({ENDLESS.format(1)})")]
    began = []
    run_short = type(node.files).writing
    monkeypatch.setattr(type(node.files), "writing", lambda *given: began.append(1) or run_short(*given))
    for _ in range(2):
        assert isinstance(await node.short_batch(db, *endless), NotShort)
    assert len(began) == 1
    assert (await node.long(db, "select b from t order by a"))["rows"] == [["x"], ["y"]]


@pytest.mark.parametrize(
    "sent", [[], [Statement("select 1")] * 1_001, [Statement("select 1"), Statement("select " + "1" * 9_000)]]
)
async def test_a_batch_beyond_its_bounds_goes_the_long_way(node: Any, db: Any, sent: Any) -> None:
    assert isinstance(await node.short_batch(db, *sent), NotShort)


async def test_rows_of_each_statement_of_a_batch_are_counted(node: Any) -> None:
    target = await node.create()
    read = (await node.long(target, "create table t(a integer primary key, b)"))["rowsRead"]
    read += (await node.long(target, "select 1"))["rowsRead"]
    for batch in (
        [Statement(INSERT, (index, None)) for index in range(1_000)],
        [Statement("select count(*) from t where a < 10"), Statement("select b from t where a = 1")],
    ):
        totals = (await node.short_batch(target, *batch))["totals"]
        read += totals["rowsRead"]
    await node.until_metered("sqlite_rows_written", 1_000)
    await node.until_metered("sqlite_rows_read", read)


async def test_whole_scans_of_a_batch_are_answered_with_advice(node: Any, db: Any) -> None:
    await node.long(db, MANY.format(300))
    scans = [Statement("select b from t where b = 7"), Statement("select 1"), Statement("select a from t where b < 1")]
    advice = "This statement scanned the whole table t; an index on (b) may avoid it."
    for answer in (await node.short_batch(db, *scans), await node.short_batch(db, *scans)):
        assert answer["nextActions"] == [advice, advice]
    assert (await node.long_batch(db, *scans))["nextActions"] == [advice, advice]


async def test_whole_scans_are_answered_with_advice(node: Any, db: Any) -> None:
    await node.long(db, MANY.format(300))
    for _ in range(2):
        answer = await node.short(db, "select b from t where b = 7")
        assert answer["nextActions"] == ["This statement scanned the whole table t; an index on (b) may avoid it."]


async def test_rows_of_both_meters_are_counted(node: Any) -> None:
    target = await node.create()
    answers = [
        await node.long(target, "create table t(a integer primary key, b)"),
        await node.long(target, "select 1"),
        *[await node.short(target, "insert into t(b) values (?)", (index,)) for index in range(10)],
        *[await node.short(target, "select count(*) from t where a > ?", (index,)) for index in range(10)],
    ]
    assert sum(answer["rowsWritten"] for answer in answers) == 10
    await node.until_metered("sqlite_rows_written", 10)
    await node.until_metered("sqlite_rows_read", sum(answer["rowsRead"] for answer in answers))


async def test_many_at_a_time_are_each_done_once(node: Any, db: Any) -> None:
    answers = await asyncio.gather(
        *(node.ask(db, "insert into t(b) values (?)", (index,)) for index in range(300)),
        *(node.ask(db, "select ? from t where a = 1", (index,)) for index in range(300)),
        *(node.short(db, "insert into t values (1, 'taken')") for _ in range(10)),
    )
    assert sum(answer["rowsWritten"] for answer in answers[:300]) == 300
    assert [answer["rows"] for answer in answers[300:600]] == [[[index]] for index in range(300)]
    assert {answer.code for answer in answers[600:]} == {"sqlite_constraint_failed"}
    assert (await node.long(db, "select count(*) from t"))["rows"] == [[302]]
    await node.until_metered("sqlite_rows_written", 302)


async def test_reads_for_which_a_turn_has_no_time_are_done_in_the_next(node: Any, db: Any) -> None:
    node.shorts.bounds = replace(node.shorts.bounds, total_s=0.0)
    answers = await asyncio.gather(*(node.short(db, "select ? from t where a = 1", (index,)) for index in range(50)))
    assert [answer["rows"] for answer in answers] == [[[index]] for index in range(50)]


async def test_a_read_sees_every_write_that_was_answered(node: Any, db: Any) -> None:
    for count in range(3, 30):
        await node.short(db, "insert into t(b) values ('z')")
        assert (await node.short(db, "select count(*) from t"))["rows"] == [[count]]


async def test_what_only_reads_writes_nothing(node: Any, db: Any) -> None:
    sent: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    node.shorts.read(db, "free", [Statement("delete from t")], sent.set_result)
    assert isinstance(await sent, NotShort)
    assert (await node.long(db, "select count(*) from t"))["rows"] == [[2]]


async def test_an_endless_statement_is_cut_at_once_and_then_known(node: Any, db: Any) -> None:
    for _ in range(2):
        assert isinstance(await node.short(db, ENDLESS.format(1)), NotShort)
    assert isinstance(await node.short(db, f"update t set b = ({ENDLESS.format(1)})"), NotShort)
    assert (await node.long(db, "select count(*) from t where b in ('x', 'y')"))["rows"] == [[2]]


async def test_an_account_that_wastes_the_loops_time_is_believed_known_statements_only(node: Any, db: Any) -> None:
    assert (await node.short(db, "select 'known'"))["rowCount"] == 1
    for index in range(3):
        assert isinstance(await node.short(db, ENDLESS.format(index)), NotShort)
    assert isinstance(await node.short(db, "select 'new'"), NotShort)
    assert (await node.short(db, "select 'known'"))["rowCount"] == 1


@pytest.mark.parametrize("sql", ["select b from t, (select 1 union all select 2)", "select zeroblob(100000)"])
async def test_what_a_page_cannot_hold_goes_the_long_way(node: Any, db: Any, sql: str) -> None:
    await node.long(db, MANY.format(1_400))
    assert isinstance(await node.short(db, sql), NotShort)


async def test_parameters_beyond_the_plans_go_the_long_way(node: Any, db: Any) -> None:
    marks = ",".join("?" * 101)
    assert isinstance(await node.short(db, f"select {marks}", (0,) * 101, plan="free"), NotShort)
    assert (await node.short(db, f"select {marks}", (0,) * 101))["rowCount"] == 1


async def test_a_foreign_database_is_left_to_the_long_way(node: Any, db: Any) -> None:
    assert isinstance(await node.short(db._replace(account_id="another"), "select 1"), NotShort)


async def test_while_a_restore_puts_another_generation_in_place_writes_go_the_long_way(node: Any, db: Any) -> None:
    database = await node.databases.directory.resolve(db)
    async with node.gates.closed(database.id):
        assert isinstance(await node.short(db, "insert into t(b) values ('z')"), NotShort)
        assert (await node.short(db, "select count(*) from t"))["rows"] == [[2]]
    assert (await node.short(db, "insert into t(b) values ('z')"))["changes"] == 1


async def test_after_a_restore_the_new_generation_is_read_and_written(node: Any, db: Any) -> None:
    backup = await node.backed_up(db)
    await node.short(db, "insert into t(b) values ('z')")
    restore = await node.backups.restore(db, "self_hosted", backup.id)
    await node.until_restored(db, restore.id)
    assert (await node.ask(db, "select count(*) from t"))["rows"] == [[2]]
    await node.ask(db, "insert into t(b) values ('z')")
    assert (await node.ask(db, "select count(*) from t"))["rows"] == [[3]]
