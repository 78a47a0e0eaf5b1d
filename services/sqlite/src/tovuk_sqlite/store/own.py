"""What both engines know: what is ours in a tenant's file, usage rows that no tenant sees, and names of errors."""

import re
from collections.abc import Sequence
from typing import Final

#: Our names begin so, and the tenant's may not.
OWN_PREFIX: Final = "_tovuk_"
#: Run once in a new file.
CREATE_USED: Final = (
    "CREATE TABLE IF NOT EXISTS _tovuk_used (store TEXT NOT NULL, epoch INTEGER NOT NULL, lease INTEGER NOT NULL,"
    " units INTEGER NOT NULL, PRIMARY KEY (store, epoch, lease)) STRICT, WITHOUT ROWID"
)
#: Answers with the row's total.
CHARGE: Final = (
    "INSERT INTO _tovuk_used VALUES (?, ?, ?, ?)"
    " ON CONFLICT (store, epoch, lease) DO UPDATE SET units = units + excluded.units RETURNING units"
)
READ_USED: Final = "SELECT store, epoch, lease, units FROM _tovuk_used"

#: The most pages SQLite lets a file have: what we write ourselves is not bound by the tenant's room.
PAGES_MAX: Final = 4_294_967_294
#: Free pages that are given back to the disk in one transaction.
SHRINK_PAGES: Final = 256

#: What kind of constraint it is that SQLite names in an error.
CONSTRAINTS: Final = {
    "SQLITE_CONSTRAINT_UNIQUE": "unique",
    "SQLITE_CONSTRAINT_PRIMARYKEY": "primary_key",
    "SQLITE_CONSTRAINT_ROWID": "primary_key",
    "SQLITE_CONSTRAINT_NOTNULL": "not_null",
    "SQLITE_CONSTRAINT_FOREIGNKEY": "foreign_key",
    "SQLITE_CONSTRAINT_CHECK": "check",
    "SQLITE_CONSTRAINT_TRIGGER": "trigger",
    "SQLITE_CONSTRAINT_DATATYPE": "datatype",
}

_SYNTAX: Final = re.compile(r"syntax error|incomplete input|unrecognized token|unterminated")


def is_syntax(message: str) -> bool:
    """Whether SQLite complains about the text itself, not about what it names."""
    return _SYNTAX.search(message) is not None


def forgetting(store: str, epoch: int, lease_ids: Sequence[int] | None) -> list[tuple[str, tuple[str | int, ...]]]:
    """The statements that remove usage rows, of these leases or of the whole epoch."""
    if lease_ids is None:
        return [("DELETE FROM _tovuk_used WHERE store = ? AND epoch = ?", (store, epoch))]
    sql = "DELETE FROM _tovuk_used WHERE store = ? AND epoch = ? AND lease = ?"
    return [(sql, (store, epoch, lease_id)) for lease_id in lease_ids]
