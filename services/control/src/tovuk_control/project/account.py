"""Accounts: who owns services and tokens, and on which plan."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

from tovuk_control.errors import (
    HandleTaken,
    InvalidDisplayName,
    InvalidHandle,
    InvalidPlan,
)
from tovuk_control.limits import DISPLAY_NAME_CHARACTERS_MAX, PLANS, Plan
from tovuk_control.project import activity
from tovuk_control.project.changes import Publish, callers_changed
from tovuk_control.project.lookup import find_account
from tovuk_control.project.page import Cursors, checked_limit
from tovuk_control.project.token import make_token
from tovuk_control.store import accounts as table
from tovuk_control.store import tokens as tokens_table
from tovuk_control.store.accounts import Account, PlanNews
from tovuk_kit.clock import Clock
from tovuk_kit.database import Database, Tx
from tovuk_kit.ids import new_id
from tovuk_kit.tokens import new_token

_HANDLE: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,37}[a-z0-9])?")
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class PlanSink(Protocol):
    """Who must know the plan of every account."""

    async def set_plan(self, account_id: str, plan: str, revision: int) -> None:
        """Durable there on return; idempotent, the higher revision wins. Raises TovukError."""
        ...


def add(tx: Tx, handle: str, display_name: str, plan: Plan, now_ms: int) -> Account:
    """Write a new account and its plan for metering. Raises HandleTaken."""
    tx.lock("handles")
    if table.by_handle(tx, handle) is not None:
        raise HandleTaken
    account = Account(new_id("account"), handle, display_name, plan, 1, now_ms)
    table.insert(tx, account)
    table.post_plan(tx, PlanNews(account.id, plan, account.plan_revision))
    activity.record(tx, account.id, "account_created", now_ms, handle=handle, plan=plan)
    return account


class Accounts:
    """The accounts of this installation. `posted` is called when a plan waits for delivery to metering."""

    def __init__(
        self, database: Database, clock: Clock, publish: Publish, cursors: Cursors, posted: Callable[[], None]
    ) -> None:
        self._database = database
        self._clock = clock
        self._publish = publish
        self._cursors = cursors
        self._posted = posted

    async def get(self, account_id: str) -> Account:
        """The account of this id. Raises AccountNotFound."""
        return await self._database.read(lambda tx: find_account(tx, account_id))

    async def create(self, handle: str, display_name: str, plan: str) -> tuple[Account, str]:
        """A new account and its first user token, shown once.

        Raises InvalidHandle, InvalidDisplayName, InvalidPlan, HandleTaken.
        """
        display_name = _names(handle, display_name)
        checked_plan = _plan(plan)
        now_ms = self._clock.wall_ms()
        secret = new_token("user")

        def work(tx: Tx) -> Account:
            account = add(tx, handle, display_name, checked_plan, now_ms)
            tokens_table.insert(tx, make_token(account.id, secret, ("user",), now_ms, label="first token"))
            return account

        account = await self._database.write(work)
        self._posted()
        return account, secret

    async def update(self, account_id: str, handle: str, display_name: str) -> Account:
        """Rename; an empty display name becomes the handle.

        Raises InvalidHandle, InvalidDisplayName, AccountNotFound, HandleTaken.
        """
        display_name = _names(handle, display_name)
        now_ms = self._clock.wall_ms()

        def work(tx: Tx) -> Account:
            tx.lock("handles")
            account = find_account(tx, account_id)
            holder = table.by_handle(tx, handle)
            if holder is not None and holder.id != account_id:
                raise HandleTaken
            if (account.handle, account.display_name) == (handle, display_name):
                return account
            table.rename(tx, account_id, handle, display_name)
            activity.record(tx, account_id, "account_updated", now_ms, handle=handle, displayName=display_name)
            return replace(account, handle=handle, display_name=display_name)

        return await self._database.write(work)

    async def set_plan(self, account_id: str, plan: str) -> Account:
        """Change the plan; metering is told durably. Raises InvalidPlan, AccountNotFound."""
        checked_plan = _plan(plan)
        now_ms = self._clock.wall_ms()

        def work(tx: Tx) -> Account:
            tx.lock(f"account:{account_id}")
            account = find_account(tx, account_id)
            if account.plan == checked_plan:
                return account
            changed = replace(account, plan=checked_plan, plan_revision=account.plan_revision + 1)
            news = PlanNews(account_id, checked_plan, changed.plan_revision)
            table.set_plan(tx, news)
            table.post_plan(tx, news)
            activity.record(tx, account_id, "plan_changed", now_ms, plan=checked_plan, before=account.plan)
            return changed

        account = await self._database.write(work)
        self._posted()
        callers_changed(self._publish)
        return account

    async def page(self, limit: int, cursor: str) -> tuple[list[Account], str]:
        """Accounts by id, and the next page's cursor, empty on the last. Raises InvalidLimit, InvalidCursor."""
        limit = checked_limit(limit)
        after_id = self._cursors.read("accounts", "", cursor) if cursor else ""
        accounts = await self._database.read(lambda tx: table.page(tx, after_id, limit + 1))
        more = len(accounts) > limit
        accounts = accounts[:limit]
        return accounts, self._cursors.write("accounts", "", accounts[-1].id) if more else ""


def _names(handle: str, display_name: str) -> str:
    """The display name to store, both names checked."""
    if _HANDLE.fullmatch(handle) is None:
        raise InvalidHandle
    display_name = display_name or handle
    if len(display_name) > DISPLAY_NAME_CHARACTERS_MAX or _UNPRINTABLE.search(display_name) or not display_name.strip():
        raise InvalidDisplayName
    return display_name


def _plan(name: str) -> Plan:
    for plan in PLANS:
        if plan == name:
            return plan
    raise InvalidPlan
