"""Writes share commits and nothing else."""

import asyncio
import resource
from typing import Any

import pytest

from tovuk_kit.errors import StoreUnavailable, TovukError


@pytest.fixture
async def db(node: Any) -> Any:
    target = await node.create()
    await node.long(target, "create table t(a integer primary key, b unique)")
    return target


async def test_one_that_fails_sinks_no_other(node: Any, db: Any) -> None:
    insert = "insert into t(b) values (?)"
    sent = [node.long(db, insert, (index % 20,)) for index in range(100)]
    sent += [node.ask(db, insert, (index % 20,)) for index in range(100)]
    answers = await asyncio.gather(*sent, return_exceptions=True)
    failed = [answer for answer in answers if isinstance(answer, TovukError)]
    assert {error.code for error in failed} == {"sqlite_constraint_failed"}
    assert len(answers) - len(failed) == 20
    assert (await node.long(db, "select count(*) from t"))["rows"] == [[20]]


async def test_one_that_would_end_the_transaction_sinks_no_other(node: Any, db: Any) -> None:
    await node.long(db, "insert into t(b) values ('taken')")
    rollback = "insert or rollback into t(b) values (?)"
    sent = []
    for index in range(50):
        sent += [node.long(db, rollback, (index,)), node.ask(db, rollback, ("taken",))]
    answers = await asyncio.gather(*sent, return_exceptions=True)
    assert [getattr(answer, "code", "done") for answer in answers] == ["done", "sqlite_constraint_failed"] * 50
    assert (await node.long(db, "select count(*) from t"))["rows"] == [[51]]


async def test_everyone_hears_of_a_file_that_cannot_be_written(node: Any, db: Any) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Every write to a file fails.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, limits[1]))
    try:
        sent = [node.long(db, "insert into t(b) values (?)", (index,)) for index in range(20)]
        sent += [node.short(db, "insert into t(b) values (?)", (index,)) for index in range(20)]
        async with asyncio.timeout(10):
            answers = await asyncio.gather(*sent, return_exceptions=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {type(answer) for answer in answers} == {StoreUnavailable}
    assert (await node.long(db, "insert into t(b) values (1)"))["changes"] == 1
    assert (await node.long(db, "select count(*) from t"))["rows"] == [[1]]


async def test_a_deferred_constraint_is_the_fault_of_its_own_write(node: Any, db: Any) -> None:
    await node.long(db, "create table c(p references t deferrable initially deferred)")
    sent = [node.long(db, "insert into c values (?)", (index,)) for index in range(10)]
    sent += [node.long(db, "insert into t(b) values (?)", (f"b{index}",)) for index in range(10)]
    answers = await asyncio.gather(*sent, return_exceptions=True)
    assert {getattr(answer, "code", "done") for answer in answers[:10]} <= {"sqlite_constraint_failed", "done"}
    assert all(not isinstance(answer, Exception) for answer in answers[10:])
    assert (await node.long(db, "pragma foreign_key_check"))["rows"] == []
