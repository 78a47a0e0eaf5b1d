import asyncio
from pathlib import Path

import pytest

from tovuk_control.errors import Unauthenticated
from tovuk_control.project.account import Accounts
from tovuk_control.project.activity import Activity
from tovuk_control.project.bootstrap import bootstrap
from tovuk_control.project.changes import Publish
from tovuk_control.project.token import Tokens
from tovuk_control.store.tokens import delete_ended
from tovuk_kit.clock import FakeClock
from tovuk_kit.database import Database
from tovuk_kit.tokens import digest, may_be_genuine


async def scopes(tokens: Tokens, secret: str) -> str:
    return (await tokens.authenticate(digest(secret).hex(), control_call=False)).scopes


async def test_the_first_start_makes_an_owner_whose_token_is_written_for_this_user_alone(
    database: Database, clock: FakeClock, publish: Publish, accounts: Accounts, tokens: Tokens, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    await bootstrap(database, clock, publish, chosen="", file=file)
    (owner,), _ = await accounts.page(10, "")
    assert (owner.handle, owner.plan) == ("owner", "self_hosted")
    assert file.stat().st_mode & 0o777 == 0o600
    secret = file.read_text().removesuffix("\n")
    assert secret.startswith("tovuk_user_")
    assert may_be_genuine(secret)
    assert await scopes(tokens, secret) == "user operator"


async def test_the_chosen_token_is_the_owners(
    database: Database, clock: FakeClock, publish: Publish, tokens: Tokens, tmp_path: Path
) -> None:
    await bootstrap(database, clock, publish, chosen="correct-horse-battery", file=tmp_path / "token")
    assert (tmp_path / "token").read_text() == "correct-horse-battery\n"
    assert await scopes(tokens, "correct-horse-battery") == "user operator"


async def test_a_later_start_changes_and_writes_nothing(
    database: Database, clock: FakeClock, publish: Publish, accounts: Accounts, tokens: Tokens, tmp_path: Path
) -> None:
    await bootstrap(database, clock, publish, chosen="correct-horse-battery", file=None)
    for chosen in ("", "correct-horse-battery"):
        await bootstrap(database, clock, publish, chosen=chosen, file=tmp_path / "token")
    (owner,), _ = await accounts.page(10, "")
    assert len(await tokens.living(owner.id)) == 1
    assert not (tmp_path / "token").exists()


async def test_another_chosen_token_replaces_the_one_before(
    database: Database,
    clock: FakeClock,
    publish: Publish,
    tokens: Tokens,
    accounts: Accounts,
    activity: Activity,
    published: list[tuple[str, bytes]],
) -> None:
    await bootstrap(database, clock, publish, chosen="the-first-chosen-token", file=None)
    await bootstrap(database, clock, publish, chosen="the-other-chosen-token", file=None)
    assert await scopes(tokens, "the-other-chosen-token") == "user operator"
    with pytest.raises(Unauthenticated):
        await scopes(tokens, "the-first-chosen-token")
    assert published == [("tovuk.changed.tokens", digest("the-first-chosen-token").hex().encode())]
    (owner,), _ = await accounts.page(10, "")
    entries, _ = await activity.page(owner.id, 0, "")
    assert [entry.kind for entry in entries] == ["token_created", "token_revoked", "token_created", "account_created"]


async def test_a_revoked_chosen_token_stays_revoked_for_ever(
    database: Database, clock: FakeClock, publish: Publish, tokens: Tokens, accounts: Accounts
) -> None:
    await bootstrap(database, clock, publish, chosen="correct-horse-battery", file=None)
    (owner,), _ = await accounts.page(10, "")
    (token,) = await tokens.living(owner.id)
    await tokens.revoke(owner.id, token.id)
    clock.advance(10**12)
    await database.write(lambda tx: delete_ended(tx, clock.wall_ms()))
    await bootstrap(database, clock, publish, chosen="correct-horse-battery", file=None)
    with pytest.raises(Unauthenticated):
        await scopes(tokens, "correct-horse-battery")
    await bootstrap(database, clock, publish, chosen="the-way-back-in-again", file=None)
    assert await scopes(tokens, "the-way-back-in-again") == "user operator"


async def test_of_two_instances_that_start_first_at_once_one_makes_the_owner(
    database: Database,
    second_database: Database,
    clock: FakeClock,
    publish: Publish,
    accounts: Accounts,
    tokens: Tokens,
    tmp_path: Path,
) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    await asyncio.gather(
        bootstrap(database, clock, publish, chosen="", file=files[0]),
        bootstrap(second_database, clock, publish, chosen="", file=files[1]),
    )
    assert len((await accounts.page(10, ""))[0]) == 1
    (written,) = [file for file in files if file.exists()]
    assert await scopes(tokens, written.read_text().strip()) == "user operator"


async def test_a_file_that_cannot_be_written_leaves_the_next_start_a_first_start(
    database: Database, clock: FakeClock, publish: Publish, accounts: Accounts, tmp_path: Path
) -> None:
    with pytest.raises(OSError, match="token"):
        await bootstrap(database, clock, publish, chosen="", file=tmp_path / "absent" / "token")
    assert await accounts.page(10, "") == ([], "")
    await bootstrap(database, clock, publish, chosen="", file=tmp_path / "token")
    assert (tmp_path / "token").exists()


async def test_a_token_file_left_by_a_start_that_failed_is_replaced(
    database: Database, clock: FakeClock, publish: Publish, tokens: Tokens, tmp_path: Path
) -> None:
    for name in ("token", "token.new"):
        (tmp_path / name).write_text("of a start that failed")
        (tmp_path / name).chmod(0o644)
    await bootstrap(database, clock, publish, chosen="", file=tmp_path / "token")
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    assert await scopes(tokens, (tmp_path / "token").read_text().strip()) == "user operator"
