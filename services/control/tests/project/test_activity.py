import asyncio

import pytest

from tovuk_control.errors import AccountNotFound, InvalidCursor, InvalidLimit, InvalidRequest
from tovuk_control.limits import ACTIVITY_ENTRIES_MAX
from tovuk_control.project.account import Accounts
from tovuk_control.project.activity import Activity, record
from tovuk_control.store.accounts import Account
from tovuk_control.store.activity import Entry
from tovuk_kit.clock import FakeClock
from tovuk_kit.database import Database, Tx


def notified(account: Account, entry_id: str = "cap-1", **changes: str | int) -> Entry:
    values = {
        "id": entry_id,
        "account_id": account.id,
        "kind": "cap_notified",
        "service_id": "",
        "details_json": '{"metric":"kv_reads"}',
        "at_ms": 5,
        **changes,
    }
    return Entry(**values)  # type: ignore[arg-type]


async def write_entries(database: Database, account: Account, count: int) -> None:
    def work(tx: Tx) -> None:
        for number in range(count):
            record(tx, account.id, "tested", number, number=number)

    await database.write(work)


async def test_another_services_entry_is_recorded_once_for_each_id(
    activity: Activity, ada: Account, contention: None
) -> None:
    await asyncio.gather(*(activity.record(notified(ada)) for _ in range(8)))
    await activity.record(notified(ada, kind="cap_reached"))
    entries, _ = await activity.page(ada.id, 0, "")
    assert [(entry.id, entry.kind, entry.at_ms) for entry in entries[:-1]] == [("cap-1", "cap_notified", 5)]
    assert entries[0].details_json == '{"metric": "kv_reads"}'


async def test_an_entry_without_a_time_has_that_of_its_arrival(
    activity: Activity, ada: Account, clock: FakeClock
) -> None:
    await activity.record(notified(ada, at_ms=0, details_json=""))
    entries, _ = await activity.page(ada.id, 1, "")
    assert (entries[0].at_ms, entries[0].details_json) == (clock.wall_ms(), "{}")


async def test_an_entry_of_an_absent_account_is_refused(activity: Activity, ada: Account) -> None:
    with pytest.raises(AccountNotFound):
        await activity.record(notified(ada, account_id="account_00000000000000000000"))


@pytest.mark.parametrize(
    "changes",
    [
        {"id": ""},
        {"id": "x" * 129},
        {"id": "a b"},
        {"kind": ""},
        {"kind": "Cap"},
        {"kind": "x" * 65},
        {"details_json": "[]"},
        {"details_json": "{"},
        {"details_json": "null"},
        {"details_json": '{"a":' * 2_000 + "1" + "}" * 2_000},
        {"details_json": '{"a":"' + "x" * 4_096 + '"}'},
        {"service_id": "api"},
        {"details_json": '{"a":"\\ud800"}'},
        {"details_json": '{"a":NaN}'},
    ],
)
async def test_a_malformed_entry_is_refused(activity: Activity, ada: Account, changes: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest):
        await activity.record(notified(ada, **changes))


async def test_pages_are_newest_first_without_gaps_or_repeats_while_entries_arrive(
    activity: Activity, database: Database, ada: Account
) -> None:
    await write_entries(database, ada, 250)
    seen: list[int] = []
    cursor = ""
    while True:
        page, cursor = await activity.page(ada.id, 100, cursor)
        seen += [entry.seq for entry in page]
        if not cursor:
            break
        await write_entries(database, ada, 3)
    assert seen == list(range(251, 0, -1))


async def test_a_page_has_fifty_entries_by_default_and_a_hundred_at_most(
    activity: Activity, database: Database, ada: Account
) -> None:
    await write_entries(database, ada, 120)
    assert len((await activity.page(ada.id, 0, ""))[0]) == 50
    assert len((await activity.page(ada.id, 100, ""))[0]) == 100
    with pytest.raises(InvalidLimit) as refused:
        await activity.page(ada.id, 101, "")
    assert refused.value.message == "limit must be an integer from 1 to 100."


async def test_the_last_page_has_no_cursor_even_when_it_is_full(
    activity: Activity, database: Database, ada: Account
) -> None:
    await write_entries(database, ada, 9)
    entries, cursor = await activity.page(ada.id, 10, "")
    assert (len(entries), cursor) == (10, "")


async def test_a_cursor_is_good_for_its_own_account_only(
    activity: Activity, accounts: Accounts, database: Database, ada: Account, bob: Account
) -> None:
    await write_entries(database, ada, 3)
    _, cursor = await activity.page(ada.id, 1, "")
    for account_id, forged in ((bob.id, cursor), (ada.id, cursor[:-1]), (ada.id, "1"), (ada.id, "é"), (ada.id, "=")):
        with pytest.raises(InvalidCursor):
            await activity.page(account_id, 1, forged)


async def test_the_activity_of_an_absent_account_is_not_found(activity: Activity) -> None:
    with pytest.raises(AccountNotFound):
        await activity.page("account_00000000000000000000", 1, "")


async def test_an_account_keeps_its_newest_ten_thousand_entries(
    activity: Activity, database: Database, ada: Account, bob: Account
) -> None:
    await write_entries(database, ada, ACTIVITY_ENTRIES_MAX)
    rows = await database.read(
        lambda tx: tx.execute("SELECT MIN(seq), COUNT(*) FROM activity WHERE account_id = ?", (ada.id,))
    )
    assert rows == [(2, ACTIVITY_ENTRIES_MAX)]
    assert len((await activity.page(bob.id, 0, ""))[0]) == 1
