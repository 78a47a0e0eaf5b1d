"""The first start: the owner's account and token."""

import logging
from pathlib import Path
from typing import Final

from tovuk_control.limits import Plan
from tovuk_control.project import activity
from tovuk_control.project.account import add
from tovuk_control.project.changes import Publish, token_changed
from tovuk_control.project.token import make_token
from tovuk_control.store import accounts as accounts_table
from tovuk_control.store import tokens as tokens_table
from tovuk_kit.clock import Clock
from tovuk_kit.database import Database, Tx
from tovuk_kit.files import write_private
from tovuk_kit.tokens import Scope, digest, new_token

HANDLE: Final = "owner"
DISPLAY_NAME: Final = "Owner"
PLAN: Final[Plan] = "self_hosted"
SCOPES: Final[tuple[Scope, ...]] = ("user", "operator")

_LABEL: Final = "owner's first token"

_logger = logging.getLogger(__name__)


async def bootstrap(database: Database, clock: Clock, publish: Publish, *, chosen: str, file: Path | None) -> None:
    """Make sure that there is an owner, and that the token the operator chose is theirs.

    The first start makes the account and a token, the chosen one or a fresh one, and writes it to `file`. A later start
    with another chosen token replaces the one before; that is also the way back in for an owner who lost theirs. A
    chosen token that was revoked stays revoked. Raises OSError when the file cannot be written.
    """
    secret = chosen or new_token("user")
    now_ms = clock.wall_ms()
    may_be_first = not await database.read(accounts_table.exists_any)
    if may_be_first and file is not None:
        # Before the commit: a token that is stored but was never shown would lock the owner out.
        write_private(file, f"{secret}\n")

    def work(tx: Tx) -> tuple[bool, list[str]]:
        tx.lock("bootstrap")
        if not accounts_table.exists_any(tx):
            owner = add(tx, HANDLE, DISPLAY_NAME, PLAN, now_ms)
            _give(tx, owner.id, secret, now_ms)
            return True, []
        return False, _replace(tx, chosen, now_ms) if chosen else []

    was_first, revoked = await database.write(work)
    for sha256 in revoked:
        token_changed(publish, sha256)
    if may_be_first and not was_first and file is not None and not chosen:
        # Another instance was first; the token in our file is nobody's.
        _withdraw_secret(file, secret)


def _withdraw_secret(file: Path, secret: str) -> None:
    if file.read_text().strip() == secret:
        file.unlink()


def _give(tx: Tx, account_id: str, secret: str, now_ms: int) -> None:
    token = make_token(account_id, secret, SCOPES, now_ms, label=_LABEL)
    tokens_table.insert(tx, token, bootstrap=True)
    activity.record(tx, account_id, "token_created", now_ms, id=token.id, scope=SCOPES[0], label=_LABEL)


def _replace(tx: Tx, chosen: str, now_ms: int) -> list[str]:
    """Give the owner the chosen token instead of the one before; returns the SHA-256 of what was revoked."""
    known = tokens_table.by_sha256(tx, digest(chosen).hex())
    if known is not None:
        if known.revoked_at_ms:
            _logger.warning("TOVUK_BOOTSTRAP_TOKEN names a token that was revoked; choose another")
        return []
    before = tokens_table.bootstrap(tx)
    living = [token for token in before if not token.revoked_at_ms]
    for token in living:
        tokens_table.revoke(tx, token.id, now_ms)
        activity.record(tx, token.account_id, "token_revoked", now_ms, id=token.id)
    _give(tx, before[0].account_id, chosen, now_ms)
    return [token.sha256 for token in living]
