"""The table of tokens. Of a token itself only the SHA-256 is here."""

# Only constants of this module are put into a statement's text.
# ruff: noqa: S608

from dataclasses import dataclass

from tovuk_control.limits import Plan
from tovuk_kit.database import Tx

_COLUMNS = (
    "id, account_id, service_id, scopes, label, prefix, last_four, created_at_ms, expires_at_ms, revoked_at_ms, sha256"
)
_LIVING = "revoked_at_ms = 0 AND (expires_at_ms = 0 OR expires_at_ms > ?)"


@dataclass(frozen=True, slots=True)
class Token:
    """One token: `service_id` is empty but for runtime tokens; times are Unix milliseconds, 0 for never."""

    id: str
    account_id: str
    service_id: str
    #: Separated by spaces, the token's own scope first.
    scopes: str
    label: str
    prefix: str
    last_four: str
    created_at_ms: int
    expires_at_ms: int
    revoked_at_ms: int
    #: Lower-case hexadecimal.
    sha256: str


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls with a token."""

    token_id: str
    account_id: str
    service_id: str
    scopes: str
    expires_at_ms: int
    plan: Plan


def insert(tx: Tx, token: Token, *, bootstrap: bool = False) -> None:
    """Add a token whose SHA-256 is new."""
    tx.execute(
        f"INSERT INTO tokens ({_COLUMNS}, bootstrap) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            token.id,
            token.account_id,
            token.service_id,
            token.scopes,
            token.label,
            token.prefix,
            token.last_four,
            token.created_at_ms,
            token.expires_at_ms,
            token.revoked_at_ms,
            token.sha256,
            int(bootstrap),
        ),
    )


def caller(tx: Tx, sha256: str, now_ms: int) -> Caller | None:
    """The caller of a living token whose service, if it has one, is alive too."""
    rows = tx.execute(
        "SELECT t.id, t.account_id, t.service_id, t.scopes, t.expires_at_ms, a.plan "
        "FROM tokens t JOIN accounts a ON a.id = t.account_id LEFT JOIN services s ON s.id = t.service_id "
        f"WHERE t.sha256 = ? AND {_LIVING.replace('revoked', 't.revoked').replace('expires', 't.expires')} "
        "AND (t.service_id = '' OR s.deleted_at_ms = 0)",
        (sha256, now_ms),
    )
    return Caller(*rows[0]) if rows else None


def get(tx: Tx, account_id: str, token_id: str) -> Token | None:
    """The account's token of this id, whether living or not."""
    rows = tx.execute(f"SELECT {_COLUMNS} FROM tokens WHERE id = ? AND account_id = ?", (token_id, account_id))
    return Token(*rows[0]) if rows else None


def by_sha256(tx: Tx, sha256: str) -> Token | None:
    """The token of this SHA-256, whether living or not."""
    rows = tx.execute(f"SELECT {_COLUMNS} FROM tokens WHERE sha256 = ?", (sha256,))
    return Token(*rows[0]) if rows else None


def living(tx: Tx, account_id: str, now_ms: int) -> list[Token]:
    """The account's living tokens, oldest first."""
    rows = tx.execute(
        f"SELECT {_COLUMNS} FROM tokens WHERE account_id = ? AND {_LIVING} ORDER BY created_at_ms, id",
        (account_id, now_ms),
    )
    return [Token(*row) for row in rows]


def bootstrap(tx: Tx) -> list[Token]:
    """The token of the first start and those that replaced it, whether living or not."""
    rows = tx.execute(f"SELECT {_COLUMNS} FROM tokens WHERE bootstrap = 1")
    return [Token(*row) for row in rows]


def revoke(tx: Tx, token_id: str, now_ms: int) -> None:
    """End a living token."""
    tx.execute("UPDATE tokens SET revoked_at_ms = ? WHERE id = ? AND revoked_at_ms = 0", (now_ms, token_id))


def delete_of_service(tx: Tx, service_id: str) -> None:
    """Forget the runtime tokens of a purged service."""
    tx.execute("DELETE FROM tokens WHERE service_id = ?", (service_id,))


def delete_ended(tx: Tx, before_ms: int) -> None:
    """Forget tokens that were revoked or expired before a moment, but those of first starts.

    Were a revoked one of those forgotten, the next start would give it back to the owner.
    """
    tx.execute(
        "DELETE FROM tokens WHERE bootstrap = 0 AND ((revoked_at_ms <> 0 AND revoked_at_ms < ?) "
        "OR (expires_at_ms <> 0 AND expires_at_ms < ?))",
        (before_ms, before_ms),
    )
