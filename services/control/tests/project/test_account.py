import asyncio

import pytest

from tovuk_control.errors import (
    AccountNotFound,
    HandleTaken,
    InvalidCursor,
    InvalidDisplayName,
    InvalidHandle,
    InvalidLimit,
    InvalidPlan,
)
from tovuk_control.project.account import Accounts
from tovuk_control.project.activity import Activity
from tovuk_control.project.token import Tokens
from tovuk_control.store.accounts import Account, PlanNews, posted_plans
from tovuk_kit.clock import FakeClock
from tovuk_kit.database import Database
from tovuk_kit.tokens import digest


async def outbox(database: Database) -> list[PlanNews]:
    return await database.read(lambda tx: posted_plans(tx, "", 100))


async def test_a_new_account_can_be_read_and_its_token_stands_for_it(accounts: Accounts, tokens: Tokens) -> None:
    account, secret = await accounts.create("grace-h", "Grace Hopper", "pro")
    assert await accounts.get(account.id) == account
    assert (account.handle, account.display_name, account.plan, account.plan_revision) == (
        "grace-h",
        "Grace Hopper",
        "pro",
        1,
    )
    caller = await tokens.authenticate(digest(secret).hex(), control_call=True)
    assert (caller.account_id, caller.scopes, caller.plan) == (account.id, "user", "pro")


@pytest.mark.parametrize("account_id", ["account_00000000000000000000", "", "ada", "nul\0", "x" * 100_000])
async def test_an_absent_account_is_not_found(accounts: Accounts, ada: Account, account_id: str) -> None:
    with pytest.raises(AccountNotFound):
        await accounts.get(account_id)
    with pytest.raises(AccountNotFound):
        await accounts.update(account_id, "x", "")
    with pytest.raises(AccountNotFound):
        await accounts.set_plan(account_id, "pro")


@pytest.mark.parametrize("handle", ["a", "7", "a-b", "x" * 39, "a--b"])
async def test_a_handle_of_the_grammar_is_taken(accounts: Accounts, handle: str) -> None:
    account, _ = await accounts.create(handle, "", "free")
    assert (account.handle, account.display_name) == (handle, handle)


@pytest.mark.parametrize("handle", ["", "-a", "a-", "x" * 40, "Ada", "a_b", "a.b", "ä", "a\n", "a b"])
async def test_a_handle_outside_the_grammar_is_refused(accounts: Accounts, ada: Account, handle: str) -> None:
    with pytest.raises(InvalidHandle):
        await accounts.create(handle, "", "free")
    with pytest.raises(InvalidHandle):
        await accounts.update(ada.id, handle, "Ada")


@pytest.mark.parametrize("name", ["x" * 101, "two\nlines", "nul\0", "\x7f", "\x9b", " ", "\u2028"])
async def test_a_display_name_too_long_or_unprintable_is_refused(accounts: Accounts, ada: Account, name: str) -> None:
    with pytest.raises(InvalidDisplayName):
        await accounts.update(ada.id, "ada", name)


async def test_a_display_name_of_a_hundred_characters_of_any_script_is_taken(accounts: Accounts, ada: Account) -> None:
    name = "Ада🙂" * 25
    assert (await accounts.update(ada.id, "ada", name)).display_name == name
    assert (await accounts.get(ada.id)).display_name == name


async def test_a_renamed_account_frees_its_handle(accounts: Accounts, ada: Account) -> None:
    await accounts.update(ada.id, "lovelace", "")
    assert (await accounts.get(ada.id)).display_name == "lovelace"
    other, _ = await accounts.create("ada", "", "free")
    assert other.id != ada.id


async def test_a_handle_belongs_to_one_account(accounts: Accounts, ada: Account, bob: Account) -> None:
    with pytest.raises(HandleTaken):
        await accounts.create("ada", "", "free")
    with pytest.raises(HandleTaken):
        await accounts.update(bob.id, "ada", "")
    assert (await accounts.get(bob.id)).handle == "bob"


async def test_one_of_many_simultaneous_claims_of_a_handle_wins(accounts: Accounts, contention: None) -> None:
    results = await asyncio.gather(*(accounts.create("new", "", "free") for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(result, tuple) for result in results) == 1
    assert sum(isinstance(result, HandleTaken) for result in results) == 7


async def test_an_update_that_changes_nothing_leaves_no_entry(
    accounts: Accounts, activity: Activity, ada: Account
) -> None:
    await accounts.update(ada.id, "ada", "Ada")
    entries, _ = await activity.page(ada.id, 0, "")
    assert [entry.kind for entry in entries] == ["account_created"]


async def test_a_plan_change_has_a_new_revision_and_waits_for_metering(
    accounts: Accounts, database: Database, ada: Account, plan_posted: asyncio.Event
) -> None:
    plan_posted.clear()
    changed = await accounts.set_plan(ada.id, "pro")
    assert (changed.plan, changed.plan_revision) == ("pro", 2)
    assert await accounts.get(ada.id) == changed
    assert await outbox(database) == [PlanNews(ada.id, "pro", 2)]
    assert plan_posted.is_set()


async def test_a_plan_change_is_noticed_because_callers_carry_their_plan(
    accounts: Accounts, ada: Account, published: list[tuple[str, bytes]]
) -> None:
    await accounts.set_plan(ada.id, "pro")
    assert published == [("tovuk.changed.tokens", b"")]


async def test_the_same_plan_again_has_no_new_revision(accounts: Accounts, ada: Account) -> None:
    assert (await accounts.set_plan(ada.id, "free")).plan_revision == 1


async def test_simultaneous_plan_changes_each_have_their_revision(
    accounts: Accounts, activity: Activity, database: Database, ada: Account, contention: None
) -> None:
    plans = ["pro", "self_hosted", "free"] * 8
    await asyncio.gather(*(accounts.set_plan(ada.id, plan) for plan in plans))
    account = await accounts.get(ada.id)
    assert await outbox(database) == [PlanNews(ada.id, account.plan, account.plan_revision)]
    entries, _ = await activity.page(ada.id, 100, "")
    assert account.plan_revision == 1 + [entry.kind for entry in entries].count("plan_changed")


@pytest.mark.parametrize("plan", ["", "Free", "enterprise"])
async def test_an_unknown_plan_is_refused(accounts: Accounts, ada: Account, plan: str) -> None:
    with pytest.raises(InvalidPlan):
        await accounts.set_plan(ada.id, plan)
    with pytest.raises(InvalidPlan):
        await accounts.create("new", "", plan)


async def test_accounts_are_listed_in_pages_without_gaps_or_repeats(accounts: Accounts) -> None:
    made = {(await accounts.create(f"user-{number}", "", "free"))[0].id for number in range(7)}
    seen: list[str] = []
    cursor = ""
    while True:
        page, cursor = await accounts.page(3, cursor)
        assert len(page) <= 3
        seen += [account.id for account in page]
        if not cursor:
            break
    assert len(seen) == 7
    assert set(seen) == made


async def test_a_page_limit_outside_the_range_and_a_foreign_cursor_are_refused(accounts: Accounts) -> None:
    with pytest.raises(InvalidLimit) as refused:
        await accounts.page(101, "")
    assert refused.value.params == {"minimum": "1", "maximum": "100"}
    with pytest.raises(InvalidCursor):
        await accounts.page(1, "account_00000000000000000000")


async def test_a_change_and_its_entry_are_one(
    accounts: Accounts, activity: Activity, ada: Account, clock: FakeClock
) -> None:
    clock.advance(5)
    await accounts.set_plan(ada.id, "pro")
    await accounts.update(ada.id, "lovelace", "Ada L")
    entries, _ = await activity.page(ada.id, 0, "")
    assert [entry.kind for entry in entries] == ["account_updated", "plan_changed", "account_created"]
    assert entries[1].details_json == '{"plan": "pro", "before": "free"}'
    assert entries[0].at_ms == clock.wall_ms()
