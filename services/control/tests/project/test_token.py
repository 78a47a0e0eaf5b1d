import asyncio

import pytest

from tovuk_control.errors import (
    AccountNotFound,
    ForbiddenScope,
    InvalidTokenRequest,
    RateLimited,
    ServiceNotFound,
    TokenLimitReached,
    TokenNotFound,
    Unauthenticated,
)
from tovuk_control.limits import CONTROL_CALLS_PER_MINUTE_MAX, TOKENS_MAX
from tovuk_control.project.account import Accounts
from tovuk_control.project.activity import Activity
from tovuk_control.project.service import Services
from tovuk_control.project.token import ControlCalls, Tokens
from tovuk_control.store.accounts import Account
from tovuk_control.store.tokens import Caller
from tovuk_kit.clock import FakeClock
from tovuk_kit.database import Database
from tovuk_kit.tokens import digest, may_be_genuine


async def call(tokens: Tokens, secret: str, *, control_call: bool = False) -> Caller:
    return await tokens.authenticate(digest(secret).hex(), control_call=control_call)


@pytest.mark.parametrize("scope", ["user", "read"])
async def test_a_new_token_stands_for_its_account_and_scope(tokens: Tokens, ada: Account, scope: str) -> None:
    token, secret = await tokens.create(ada.id, scope, label="laptop")
    assert may_be_genuine(secret)
    caller = await call(tokens, secret)
    assert caller == Caller(token.id, ada.id, "", scope, 0, "free")


async def test_of_a_token_only_its_digest_is_stored(tokens: Tokens, database: Database, ada: Account) -> None:
    _, secret = await tokens.create(ada.id, "user")
    rows = await database.read(lambda tx: tx.execute("SELECT * FROM tokens"))
    assert digest(secret).hex() in {value for row in rows for value in row}
    assert not [value for row in rows for value in row if isinstance(value, str) and secret[20:-6] in value]


async def test_a_listing_shows_what_recognises_a_token(tokens: Tokens, ada: Account, clock: FakeClock) -> None:
    clock.advance(1)
    token, secret = await tokens.create(ada.id, "user", label="laptop")
    first, listed = await tokens.living(ada.id)
    assert first.label == "first token"
    assert (listed.id, listed.prefix, listed.last_four, listed.label) == (token.id, secret[:15], secret[-4:], "laptop")


async def test_an_unknown_token_is_unauthenticated(tokens: Tokens, ada: Account) -> None:
    with pytest.raises(Unauthenticated):
        await call(tokens, "nobody-knows-this-token")


async def test_a_revoked_token_is_unauthenticated_at_once_and_everybody_is_told(
    tokens: Tokens, ada: Account, published: list[tuple[str, bytes]], clock: FakeClock
) -> None:
    token, secret = await tokens.create(ada.id, "user")
    revoked = await tokens.revoke(ada.id, token.id)
    assert revoked.revoked_at_ms == clock.wall_ms()
    with pytest.raises(Unauthenticated):
        await call(tokens, secret)
    assert published == [("tovuk.changed.tokens", digest(secret).hex().encode())]
    assert token.id not in {listed.id for listed in await tokens.living(ada.id)}


async def test_revoking_twice_answers_the_same_and_is_recorded_once(
    tokens: Tokens, activity: Activity, ada: Account, clock: FakeClock
) -> None:
    token, _ = await tokens.create(ada.id, "user")
    first = await tokens.revoke(ada.id, token.id)
    clock.advance(1)
    assert await tokens.revoke(ada.id, token.id) == first
    entries, _ = await activity.page(ada.id, 0, "")
    assert [entry.kind for entry in entries] == ["token_revoked", "token_created", "account_created"]


async def test_a_foreign_token_is_not_found_like_an_absent_one(tokens: Tokens, ada: Account, bob: Account) -> None:
    token, secret = await tokens.create(ada.id, "user")
    for token_id in (token.id, "token_00000000000000000000", "", "nul\0"):
        with pytest.raises(TokenNotFound):
            await tokens.revoke(bob.id, token_id)
    await call(tokens, secret)


async def test_a_token_lives_until_its_expiry(tokens: Tokens, ada: Account, clock: FakeClock) -> None:
    token, secret = await tokens.create(ada.id, "user", expires_in_seconds=60)
    assert token.expires_at_ms == clock.wall_ms() + 60_000
    clock.advance(59_999)
    assert (await call(tokens, secret)).expires_at_ms == token.expires_at_ms
    clock.advance(1)
    with pytest.raises(Unauthenticated):
        await call(tokens, secret)
    assert token.id not in {listed.id for listed in await tokens.living(ada.id)}


@pytest.mark.proves("RES-094")
async def test_a_runtime_token_is_its_services_and_ends_with_it(
    tokens: Tokens, services: Services, ada: Account, published: list[tuple[str, bytes]]
) -> None:
    service = await services.create(ada.id, "api", "rust_worker", {})
    _, secret = await tokens.create(ada.id, "runtime", service_ref="api")
    assert secret.startswith("tovuk_runtime_")
    caller = await call(tokens, secret)
    assert (caller.service_id, caller.scopes) == (service.id, "runtime")
    published.clear()
    await services.delete(ada.id, "api")
    assert ("tovuk.changed.tokens", b"") in published
    with pytest.raises(Unauthenticated):
        await call(tokens, secret)
    await services.restore(ada.id, service.id)
    assert (await call(tokens, secret)).service_id == service.id


async def test_a_runtime_token_of_a_foreign_service_is_refused_as_of_an_absent_one(
    tokens: Tokens, services: Services, ada: Account, bob: Account
) -> None:
    service = await services.create(ada.id, "api", "rust_worker", {})
    for ref in ("api", service.id, "absent"):
        with pytest.raises(ServiceNotFound):
            await tokens.create(bob.id, "runtime", service_ref=ref)


async def test_only_an_operator_makes_operator_tokens(tokens: Tokens, ada: Account) -> None:
    with pytest.raises(ForbiddenScope):
        await tokens.create(ada.id, "operator")
    _, secret = await tokens.create(ada.id, "operator", by_operator=True)
    assert (await call(tokens, secret)).scopes == "operator"


@pytest.mark.parametrize(
    ("scope", "options"),
    [
        ("", {}),
        ("admin", {}),
        ("User", {}),
        ("runtime", {}),
        ("user", {"service_ref": "api"}),
        ("user", {"label": "x" * 101}),
        ("user", {"label": "two\nlines"}),
        ("user", {"expires_in_seconds": 10 * 366 * 86_400 + 1}),
        ("user", {"expires_in_seconds": 2**64 - 1}),
    ],
)
async def test_a_token_that_makes_no_sense_is_refused(
    tokens: Tokens, ada: Account, scope: str, options: dict[str, str | int]
) -> None:
    with pytest.raises(InvalidTokenRequest) as refused:
        await tokens.create(ada.id, scope, **options)  # type: ignore[arg-type]
    assert refused.value.message


async def test_a_token_of_an_absent_account_is_refused(tokens: Tokens) -> None:
    with pytest.raises(AccountNotFound):
        await tokens.create("account_00000000000000000000", "user")


async def test_an_account_has_a_hundred_living_tokens_and_no_more(
    tokens: Tokens, ada: Account, clock: FakeClock, contention: None
) -> None:
    made = [await tokens.create(ada.id, "user", expires_in_seconds=60) for _ in range(TOKENS_MAX - 2)]
    results = await asyncio.gather(*(tokens.create(ada.id, "user") for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(result, TokenLimitReached) for result in results) == 7
    await tokens.revoke(ada.id, made[0][0].id)
    await tokens.create(ada.id, "user")
    with pytest.raises(TokenLimitReached):
        await tokens.create(ada.id, "user")
    clock.advance(60_000)
    await tokens.create(ada.id, "user")


async def test_a_token_carries_the_plan_of_now(tokens: Tokens, accounts: Accounts, ada: Account) -> None:
    _, secret = await tokens.create(ada.id, "user")
    await accounts.set_plan(ada.id, "pro")
    assert (await call(tokens, secret)).plan == "pro"


def test_a_token_has_1200_control_calls_in_any_minute(clock: FakeClock) -> None:
    calls = ControlCalls(clock)
    for _ in range(CONTROL_CALLS_PER_MINUTE_MAX // 2):
        calls.count("token_a")
    clock.advance(45_000)
    for _ in range(CONTROL_CALLS_PER_MINUTE_MAX // 2):
        calls.count("token_a")
    with pytest.raises(RateLimited) as refused:
        calls.count("token_a")
    assert (refused.value.retry_after_ms, refused.value.params) == (15_000, {"limit": "1200"})
    calls.count("token_b")
    clock.advance(14_999)
    with pytest.raises(RateLimited) as refused:
        calls.count("token_a")
    assert refused.value.retry_after_ms == 1
    clock.advance(1)
    for _ in range(CONTROL_CALLS_PER_MINUTE_MAX // 2):
        calls.count("token_a")
    with pytest.raises(RateLimited):
        calls.count("token_a")


def test_wall_time_that_jumps_gives_no_control_calls_back(clock: FakeClock) -> None:
    calls = ControlCalls(clock)
    for _ in range(CONTROL_CALLS_PER_MINUTE_MAX):
        calls.count("token_a")
    clock.skew(3_600_000)
    with pytest.raises(RateLimited):
        calls.count("token_a")


def test_idle_tokens_are_forgotten(clock: FakeClock) -> None:
    calls = ControlCalls(clock)
    for number in range(100):
        calls.count(f"token_{number}")
    clock.advance(60_000)
    calls.count("token_0")
    assert len(calls._calls) == 1


async def test_data_calls_are_not_counted_as_control_calls(tokens: Tokens, ada: Account) -> None:
    _, secret = await tokens.create(ada.id, "user")
    caller = await call(tokens, secret, control_call=True)
    for _ in range(CONTROL_CALLS_PER_MINUTE_MAX - 1):
        tokens._control_calls.count(caller.token_id)
    with pytest.raises(RateLimited):
        await call(tokens, secret, control_call=True)
    await call(tokens, secret)
