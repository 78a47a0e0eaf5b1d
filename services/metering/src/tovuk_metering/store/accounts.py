"""Which plan an account has, as control told it."""

from tovuk_kit.database import Tx


def plan_of(tx: Tx, account_id: str) -> str | None:
    """The account's plan; None while control has not told it."""
    rows = tx.execute("SELECT plan FROM accounts WHERE account_id = ?", (account_id,))
    return str(rows[0][0]) if rows else None


def set_plan(tx: Tx, account_id: str, plan: str, revision: int) -> bool:
    """Store the plan unless a revision as high is known; whether it was stored."""
    return bool(
        tx.execute(
            "INSERT INTO accounts (account_id, plan, revision) VALUES (?, ?, ?)"
            " ON CONFLICT (account_id) DO UPDATE SET plan = excluded.plan, revision = excluded.revision"
            " WHERE excluded.revision > accounts.revision RETURNING account_id",
            (account_id, plan, revision),
        )
    )
