"""The table of accounts, and the outbox that carries their plans to metering."""

# Only constants of this module are put into a statement's text.
# ruff: noqa: S608

from dataclasses import dataclass

from tovuk_control.limits import Plan
from tovuk_kit.database import Tx

_COLUMNS = "id, handle, display_name, plan, plan_revision, created_at_ms"


@dataclass(frozen=True, slots=True)
class Account:
    """One account; `plan_revision` rises with every change of its plan."""

    id: str
    handle: str
    display_name: str
    plan: Plan
    plan_revision: int
    created_at_ms: int


@dataclass(frozen=True, slots=True)
class PlanNews:
    """A plan metering has not confirmed yet."""

    account_id: str
    plan: Plan
    revision: int


def insert(tx: Tx, account: Account) -> None:
    """Add an account whose id and handle are new."""
    tx.execute(
        "INSERT INTO accounts (id, handle, display_name, plan, plan_revision, activity_seq, created_at_ms) "
        "VALUES (?, ?, ?, ?, ?, 0, ?)",
        (
            account.id,
            account.handle,
            account.display_name,
            account.plan,
            account.plan_revision,
            account.created_at_ms,
        ),
    )


def get(tx: Tx, account_id: str) -> Account | None:
    """The account of this id."""
    rows = tx.execute(f"SELECT {_COLUMNS} FROM accounts WHERE id = ?", (account_id,))
    return Account(*rows[0]) if rows else None


def by_handle(tx: Tx, handle: str) -> Account | None:
    """The account of this handle."""
    rows = tx.execute(f"SELECT {_COLUMNS} FROM accounts WHERE handle = ?", (handle,))
    return Account(*rows[0]) if rows else None


def exists_any(tx: Tx) -> bool:
    """Whether there is an account at all."""
    return bool(tx.execute("SELECT 1 FROM accounts LIMIT 1"))


def page(tx: Tx, after_id: str, limit: int) -> list[Account]:
    """Accounts by id, behind `after_id`."""
    rows = tx.execute(f"SELECT {_COLUMNS} FROM accounts WHERE id > ? ORDER BY id LIMIT ?", (after_id, limit))
    return [Account(*row) for row in rows]


def rename(tx: Tx, account_id: str, handle: str, display_name: str) -> None:
    """Set both names."""
    tx.execute("UPDATE accounts SET handle = ?, display_name = ? WHERE id = ?", (handle, display_name, account_id))


def set_plan(tx: Tx, news: PlanNews) -> None:
    """Set the plan and its revision."""
    tx.execute(
        "UPDATE accounts SET plan = ?, plan_revision = ? WHERE id = ?", (news.plan, news.revision, news.account_id)
    )


def post_plan(tx: Tx, news: PlanNews) -> None:
    """Put the plan into the outbox; it replaces an older revision that still waits there."""
    tx.execute(
        "INSERT INTO plan_outbox (account_id, plan, revision) VALUES (?, ?, ?) "
        "ON CONFLICT (account_id) DO UPDATE SET plan = excluded.plan, revision = excluded.revision",
        (news.account_id, news.plan, news.revision),
    )


def posted_plans(tx: Tx, after_account_id: str, limit: int) -> list[PlanNews]:
    """What waits in the outbox, by account."""
    rows = tx.execute(
        "SELECT account_id, plan, revision FROM plan_outbox WHERE account_id > ? ORDER BY account_id LIMIT ?",
        (after_account_id, limit),
    )
    return [PlanNews(*row) for row in rows]


def drop_posted_plan(tx: Tx, news: PlanNews) -> None:
    """Take a delivered plan out of the outbox, unless a newer revision replaced it meanwhile."""
    tx.execute("DELETE FROM plan_outbox WHERE account_id = ? AND revision = ?", (news.account_id, news.revision))
