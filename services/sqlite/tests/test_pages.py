"""Results in pages, on the engine that can wait between them."""

from typing import Any

import pytest

from tovuk_kit.errors import TovukError

MANY = "with recursive c(x) as (select 1 union all select x + 1 from c where x < 25000) insert into t select x from c"
ALL = "select a from t"


@pytest.fixture
def engine_name() -> str:
    return "native"


@pytest.fixture
async def db(node: Any) -> Any:
    """A database whose table `t` fills two pages and a half."""
    target = await node.create()
    await node.long(target, "create table t(a integer primary key)")
    await node.long(target, MANY)
    return target


async def _page(node: Any, target: Any, cursor: str) -> Any:
    return await node.long(target, ALL, cursor=cursor)


async def _read_on(node: Any, target: Any, cursor: str | None) -> list[Any]:
    rows = []
    while cursor:
        page = await _page(node, target, cursor)
        rows += page["rows"]
        cursor = page["cursor"]
    return rows


async def test_pages_are_of_one_moment_and_count_each_row_once(node: Any, db: Any) -> None:
    first = await node.long(db, ALL)
    await node.long(db, "delete from t where a > 15000")
    second = await _page(node, db, first["cursor"])
    third = await _page(node, db, second["cursor"])
    assert [row for page in (first, second, third) for row in page["rows"]] == [[a] for a in range(1, 25_001)]
    assert third["cursor"] is None
    assert sum(page["rowsRead"] for page in (first, second, third)) <= 25_002
    assert (await node.long(db, "select count(*) from t"))["rows"] == [[15_000]]


async def test_the_same_cursor_leads_to_the_same_page_again(node: Any, db: Any) -> None:
    first = await node.long(db, ALL)
    pages = [await _page(node, db, first["cursor"]) for _ in range(3)]
    assert {str(page["rows"][0]) for page in pages} == {"[10001]"}
    assert len(await _read_on(node, db, pages[0]["cursor"])) == 5_000


async def test_what_nobody_comes_for_is_let_go_and_found_again(
    node: Any, db: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tovuk_sqlite.pages.SUSPENDED_SECONDS", -1.0)
    first = await node.long(db, ALL)
    await node.databases.pages.expire()
    assert len(await _read_on(node, db, first["cursor"])) == 15_000
    await node.databases.pages.expire()
    await node.long(db, "insert into t values (0)")
    with pytest.raises(TovukError) as raised:
        await _page(node, db, first["cursor"])
    assert raised.value.code == "sqlite_cursor_expired"


async def test_more_than_may_wait_are_answered_all_the_same(
    node: Any, db: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tovuk_sqlite.pages.SUSPENDED_PER_ACCOUNT_ENTRIES_MAX", 2)
    firsts = [await node.long(db, ALL) for _ in range(5)]
    for first in firsts:
        assert len(await _read_on(node, db, first["cursor"])) == 15_000


async def test_a_file_that_is_closed_meanwhile_is_read_anew(node: Any, db: Any) -> None:
    first = await node.long(db, ALL)
    await node.files.close_database((await node.databases.directory.resolve(db)).id)
    assert len(await _read_on(node, db, first["cursor"])) == 15_000


async def test_a_cursor_ends_with_a_restore(node: Any, db: Any) -> None:
    backup = await node.backed_up(db)
    first = await node.long(db, ALL)
    restore = await node.backups.restore(db, "self_hosted", backup.id)
    await node.until_restored(db, restore.id)
    with pytest.raises(TovukError) as raised:
        await _page(node, db, first["cursor"])
    assert raised.value.code == "sqlite_cursor_expired"
