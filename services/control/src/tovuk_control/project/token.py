"""Tokens: who may call, as what, until when."""

import re
from collections import deque
from dataclasses import replace
from typing import Final

from tovuk_control.errors import (
    ForbiddenScope,
    InvalidTokenRequest,
    RateLimited,
    TokenLimitReached,
    TokenNotFound,
    Unauthenticated,
)
from tovuk_control.limits import (
    CONTROL_CALLS_PER_MINUTE_MAX,
    TOKEN_EXPIRY_SECONDS_MAX,
    TOKEN_LABEL_CHARACTERS_MAX,
    TOKENS_MAX,
)
from tovuk_control.project import activity
from tovuk_control.project.changes import Publish, token_changed
from tovuk_control.project.lookup import find_account, find_service
from tovuk_control.store import tokens as table
from tovuk_control.store.tokens import Caller, Token
from tovuk_kit.clock import Clock
from tovuk_kit.database import Database, Tx
from tovuk_kit.ids import has_id_shape, new_id
from tovuk_kit.tokens import SCOPES, Scope, digest, new_token, recognition

_MINUTE_MS: Final = 60_000
_CONTROL_CHARACTER: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def make_token(
    account_id: str,
    secret: str,
    scopes: tuple[Scope, ...],
    now_ms: int,
    *,
    service_id: str = "",
    label: str = "",
    expires_at_ms: int = 0,
) -> Token:
    """The row of a secret that is shown once and never stored."""
    prefix, last_four = recognition(secret)
    return Token(
        id=new_id("token"),
        account_id=account_id,
        service_id=service_id,
        scopes=" ".join(scopes),
        label=label,
        prefix=prefix,
        last_four=last_four,
        created_at_ms=now_ms,
        expires_at_ms=expires_at_ms,
        revoked_at_ms=0,
        sha256=digest(secret).hex(),
    )


class ControlCalls:
    """Control calls of each token within the last minute, exactly; in the memory of this instance."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._calls: dict[str, deque[int]] = {}
        self._tidy_at_ms = 0

    def count(self, token_id: str) -> None:
        """Count a call. Raises RateLimited, which says when the next one fits; a refused call does not count."""
        now_ms = self._clock.boot_ms()
        self._tidy(now_ms)
        calls = self._calls.setdefault(token_id, deque())
        while calls and calls[0] <= now_ms - _MINUTE_MS:
            calls.popleft()
        if len(calls) >= CONTROL_CALLS_PER_MINUTE_MAX:
            raise RateLimited(retry_after_ms=calls[0] + _MINUTE_MS - now_ms, limit=CONTROL_CALLS_PER_MINUTE_MAX)
        calls.append(now_ms)

    def _tidy(self, now_ms: int) -> None:
        """Once a minute, forget tokens that made no call for a minute."""
        if now_ms >= self._tidy_at_ms:
            self._tidy_at_ms = now_ms + _MINUTE_MS
            self._calls = {token: calls for token, calls in self._calls.items() if calls[-1] > now_ms - _MINUTE_MS}


class Tokens:
    """The tokens of accounts."""

    def __init__(self, database: Database, clock: Clock, publish: Publish) -> None:
        self._database = database
        self._clock = clock
        self._publish = publish
        self._control_calls = ControlCalls(clock)

    async def authenticate(self, sha256: str, *, control_call: bool) -> Caller:
        """The caller of a token. Raises Unauthenticated, for every reason the same; RateLimited."""
        now_ms = self._clock.wall_ms()
        caller = await self._database.read(lambda tx: table.caller(tx, sha256, now_ms))
        if caller is None:
            raise Unauthenticated
        if control_call:
            self._control_calls.count(caller.token_id)
        return caller

    async def create(
        self,
        account_id: str,
        scope: str,
        *,
        service_ref: str = "",
        label: str = "",
        expires_in_seconds: int = 0,
        by_operator: bool = False,
    ) -> tuple[Token, str]:
        """A new token and its secret, which nobody can read again.

        Raises InvalidTokenRequest, ForbiddenScope, AccountNotFound, ServiceNotFound, TokenLimitReached.
        """
        _check(scope, service_ref, label, expires_in_seconds, by_operator=by_operator)
        now_ms = self._clock.wall_ms()
        wanted: Scope = next(known for known in SCOPES if known == scope)
        secret = new_token(wanted)
        expires_at_ms = now_ms + expires_in_seconds * 1_000 if expires_in_seconds else 0

        def work(tx: Tx) -> Token:
            tx.lock(f"account:{account_id}")
            find_account(tx, account_id)
            service_id = find_service(tx, account_id, service_ref).id if service_ref else ""
            if len(table.living(tx, account_id, now_ms)) >= TOKENS_MAX:
                raise TokenLimitReached(limit=TOKENS_MAX)
            token = make_token(
                account_id,
                secret,
                (wanted,),
                now_ms,
                service_id=service_id,
                label=label,
                expires_at_ms=expires_at_ms,
            )
            table.insert(tx, token)
            activity.record(
                tx, account_id, "token_created", now_ms, service_id=service_id, id=token.id, scope=scope, label=label
            )
            return token

        return await self._database.write(work), secret

    async def living(self, account_id: str) -> list[Token]:
        """The account's living tokens, oldest first; at most `TOKENS_MAX`. Raises AccountNotFound."""
        now_ms = self._clock.wall_ms()

        def work(tx: Tx) -> list[Token]:
            find_account(tx, account_id)
            return table.living(tx, account_id, now_ms)

        return await self._database.read(work)

    async def revoke(self, account_id: str, token_id: str) -> Token:
        """End a token at once; again is the same. Raises AccountNotFound, TokenNotFound."""
        now_ms = self._clock.wall_ms()

        def work(tx: Tx) -> Token:
            tx.lock(f"account:{account_id}")
            find_account(tx, account_id)
            token = table.get(tx, account_id, token_id) if has_id_shape(token_id) else None
            if token is None:
                raise TokenNotFound
            if token.revoked_at_ms:
                return token
            table.revoke(tx, token_id, now_ms)
            activity.record(tx, account_id, "token_revoked", now_ms, id=token_id)
            return replace(token, revoked_at_ms=now_ms)

        token = await self._database.write(work)
        token_changed(self._publish, token.sha256)
        return token


def _check(scope: str, service_ref: str, label: str, expires_in_seconds: int, *, by_operator: bool) -> None:
    if scope not in SCOPES:
        raise InvalidTokenRequest(reason="the scope is not one of user, read, runtime and operator")
    if scope == "operator" and not by_operator:
        raise ForbiddenScope(scope="operator")
    if scope == "runtime" and not service_ref:
        raise InvalidTokenRequest(reason="a runtime token needs a service")
    if scope != "runtime" and service_ref:
        raise InvalidTokenRequest(reason="only a runtime token has a service")
    if len(label) > TOKEN_LABEL_CHARACTERS_MAX or _CONTROL_CHARACTER.search(label):
        raise InvalidTokenRequest(
            reason=f"a label has at most {TOKEN_LABEL_CHARACTERS_MAX} characters, none of them a control character"
        )
    if expires_in_seconds > TOKEN_EXPIRY_SECONDS_MAX:
        raise InvalidTokenRequest(reason=f"the expiry is more than {TOKEN_EXPIRY_SECONDS_MAX} seconds away")
