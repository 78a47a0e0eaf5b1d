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
    node.shorts.read(db, "free", Statement("delete from t"), sent.set_result)
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
