"""Where the file of a database lies: the only place that knows."""

import shutil
from pathlib import Path

from tovuk_sqlite.store.base import Database


def folder(data_dir: Path, database_id: str) -> Path:
    """The folder of all generations of a database."""
    return data_dir / "databases" / database_id[-2:] / database_id


def path(data_dir: Path, database: Database) -> Path:
    """The file of the database's current generation."""
    return folder(data_dir, database.id) / f"{database.generation}.sqlite"


def remove(data_dir: Path, database_id: str) -> None:
    """Remove every generation."""
    shutil.rmtree(folder(data_dir, database_id), ignore_errors=True)
