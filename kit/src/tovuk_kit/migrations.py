"""Numbered schema changes, both ways, on either engine.

A service keeps `NNNN_name.up.sql` and `NNNN_name.down.sql` in one package folder, numbered from 0001 without gaps. The
database remembers what was applied, with a checksum, in `schema_migrations`.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from tovuk_kit.database import Database, Tx

_FILE = re.compile(r"(\d{4})_([a-z0-9_]+)\.(up|down)\.sql")


class MigrationError(Exception):
    """The migrations and the database do not fit together; nothing was changed."""


class SchemaTooNew(MigrationError):
    """The database was migrated by newer code than this."""


class MigrationChanged(MigrationError):
    """A migration that was already applied has another text now."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered step; `up` and `down` are SQL scripts in the dialect both engines take."""

    version: int
    name: str
    up: str
    down: str

    @property
    def checksum(self) -> str:
        """Of the text that was, or will be, applied."""
        return hashlib.sha256(self.up.encode()).hexdigest()


def load(package: str, folder: str = "migrations") -> tuple[Migration, ...]:
    """The migrations in `folder` of an importable package, in order.

    Raises MigrationError for a gap, a missing half or a misnamed file.
    """
    texts: dict[tuple[int, str], dict[str, str]] = {}
    for entry in files(package).joinpath(folder).iterdir():
        if not entry.name.endswith(".sql"):
            continue
        match = _FILE.fullmatch(entry.name)
        if match is None:
            raise MigrationError(f"{entry.name} is not named NNNN_name.up.sql or NNNN_name.down.sql")
        texts.setdefault((int(match[1]), match[2]), {})[match[3]] = entry.read_text("utf-8")
    steps = []
    for expected, ((version, name), halves) in enumerate(sorted(texts.items()), start=1):
        if version != expected:
            raise MigrationError(f"migration {version:04} follows {expected - 1:04}")
        if halves.keys() != {"up", "down"}:
            raise MigrationError(f"migration {version:04}_{name} lacks its up or its down half")
        steps.append(Migration(version, name, halves["up"], halves["down"]))
    return tuple(steps)


def apply(tx: Tx, migrations: Sequence[Migration], target: int | None = None) -> int:
    """Bring the schema to `target` (None: the newest) within the transaction `tx`; returns the version reached.

    Raises SchemaTooNew, MigrationChanged, or MigrationError for a target that does not exist.
    """
    tx.lock("schema_migrations")
    tx.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations"
        " (version BIGINT PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL)"
    )
    applied = tx.execute("SELECT version, checksum FROM schema_migrations ORDER BY version")
    target = len(migrations) if target is None else target
    if not 0 <= target <= len(migrations):
        raise MigrationError(f"there is no migration {target}; the newest is {len(migrations)}")
    if len(applied) > len(migrations):
        raise SchemaTooNew(f"the database is at {len(applied)}, this code knows {len(migrations)}")
    for (version, checksum), step in zip(applied, migrations, strict=False):
        if (version, checksum) != (step.version, step.checksum):
            raise MigrationChanged(f"{step.version:04}_{step.name} is not what was applied")
    for step in migrations[len(applied) : target]:
        tx.execute(step.up)
        tx.execute("INSERT INTO schema_migrations VALUES (?, ?, ?)", (step.version, step.name, step.checksum))
    for step in reversed(migrations[target : len(applied)]):
        tx.execute(step.down)
        tx.execute("DELETE FROM schema_migrations WHERE version = ?", (step.version,))
    return target


async def migrate(db: Database, migrations: Sequence[Migration], target: int | None = None) -> int:
    """`apply` as one durable transaction of `db`; two processes that migrate at once do so one after the other."""
    return await db.write(lambda tx: apply(tx, migrations, target))
