"""What a database guarantees beside what engines do."""

import json
from typing import Any

import pytest
from sqlite_node import until

from tovuk_kit.errors import TovukError
from tovuk_sqlite.limits import SHRINK_BYTES_MIN
from tovuk_sqlite.store.base import Statement

COUNT = "with recursive c(x) as (select 1 union all select x + 1 from c where x < {}) "
FILL = "insert into t " + COUNT + "select x, zeroblob(1000) from c"


async def _refused(sent: Any) -> str:
    with pytest.raises(TovukError) as raised:
        await sent
    return raised.value.code


async def test_space_that_a_delete_frees_goes_back_to_the_disk_and_the_account(node: Any) -> None:
    target = await node.create()
    await node.long(target, "create table t(a integer primary key, b)")
    full = (await node.long(target, FILL.format(4 * SHRINK_BYTES_MIN // 1_000)))["storageBytes"]
    await node.long(target, "delete from t where a > 100")
    await node.databases.shrink()
    assert (await node.long(target, "select 1"))["storageBytes"] < full / 10
    assert node.usage.account_bytes("account") < full / 10
    assert (await node.long(target, "select count(*) from t"))["rows"] == [[100]]


async def test_a_little_free_space_is_kept_for_what_comes_next(node: Any) -> None:
    target = await node.create()
    await node.long(target, "create table t(a integer primary key, b)")
    full = (await node.long(target, FILL.format(2 * SHRINK_BYTES_MIN // 1_000)))["storageBytes"]
    await node.long(target, "delete from t where a % 10 = 0")
    await node.databases.shrink()
    assert (await node.long(target, "select 1"))["storageBytes"] == full


async def test_a_batch_is_all_or_nothing(node: Any) -> None:
    target = await node.create()
    await node.run(target, "create table t(a unique)", "insert into t values (1)")
    assert await _refused(node.run(target, "insert into t values (2)", "insert into t values (1)")) == (
        "sqlite_constraint_failed"
    )
    assert await node.run(target, "select a from t") == [[1]]


async def test_a_batch_whose_result_is_no_page_does_nothing(node: Any) -> None:
    target = await node.create()
    await node.run(target, "create table t(a)")
    many = COUNT.format(10_001) + "select x from c"
    assert await _refused(node.run(target, "insert into t values (1)", many)) == "sqlite_result_too_large"
    assert await node.run(target, "select count(*) from t") == [[0]]


async def test_a_statement_is_short_enough_and_a_batch_has_not_too_many(node: Any) -> None:
    target = await node.create()
    assert await _refused(node.long(target, "select 1 -- " + "x" * 100_000)) == "sqlite_statement_too_long"
    assert await _refused(node.run(target, *["select 1"] * 1_001)) == "sqlite_batch_too_many"


async def test_an_estimate_counts_and_does_nothing(node: Any) -> None:
    target = await node.create()
    await node.long(target, "create table t(a)")
    answer = json.loads(await node.databases.estimate(target, Statement("delete from t where a = 1", ())))
    assert (answer["scans"], answer["scannedTables"]) == (True, ["t"])
    assert (await node.long(target, "select count(*) from t"))["rows"] == [[0]]


async def test_what_a_write_read_before_it_failed_is_counted(node: Any) -> None:
    target = await node.create()
    answers = [
        await node.long(target, "create table t(a unique)"),
        await node.long(target, "insert into t " + COUNT.format(50) + "select x from c"),
    ]
    before = sum(answer["rowsRead"] for answer in answers)
    assert await _refused(node.long(target, "insert into t select a + 25 from t order by a desc")) == (
        "sqlite_constraint_failed"
    )
    answers.append(await node.long(target, "select a from t"))
    await until(lambda: node.metered("sqlite_rows_read") > before + answers[-1]["rowsRead"])


async def test_a_large_result_comes_page_by_page(node: Any) -> None:
    target = await node.create()
    sql = COUNT.format(25_000) + "select x from c"
    page = await node.long(target, sql)
    rows = page["rows"]
    while page["cursor"]:
        assert page["rowCount"] == 10_000
        page = await node.long(target, sql, cursor=page["cursor"])
        rows += page["rows"]
    assert rows == [[x] for x in range(1, 25_001)]


async def test_a_cursor_is_its_own_statements(node: Any) -> None:
    target = await node.create()
    cursor = (await node.long(target, COUNT.format(10_001) + "select x from c"))["cursor"]
    assert await _refused(node.long(target, "select 1", cursor=cursor)) == "sqlite_cursor_invalid"
