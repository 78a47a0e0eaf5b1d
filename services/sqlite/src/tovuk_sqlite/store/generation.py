"""Where the files of a database lie: the only place that knows."""

import secrets
import shutil
from collections.abc import Collection
from pathlib import Path

from tovuk_kit.files import make_folder, sync_folder
from tovuk_sqlite.store.base import Database

_STAGED = ".staged"
#: A file that is being made; nobody reads it under this name.
_PART = ".part"


def folder(data_dir: Path, database_id: str) -> Path:
    """The folder of all generations of a database."""
    return data_dir / "databases" / database_id[-2:] / database_id


def path(data_dir: Path, database: Database) -> Path:
    """The file of the database's current generation."""
    return numbered(data_dir, database.id, database.generation)


def numbered(data_dir: Path, database_id: str, generation: int) -> Path:
    """The file of one of the database's generations."""
    return folder(data_dir, database_id) / f"{generation}.sqlite"


def staged(data_dir: Path, database_id: str, backup_id: str) -> Path:
    """A whole and checked copy on its way to the archive."""
    return folder(data_dir, database_id) / f"{backup_id}{_STAGED}"


def leaving(data_dir: Path, database_id: str) -> Path:
    """A copy that is sent to another shard."""
    return data_dir / "moving" / f"{database_id}.leaving"


def leaving_changes(data_dir: Path, database_id: str) -> Path:
    """What changed in the database since that copy."""
    return data_dir / "moving" / f"{database_id}.changes"


def arriving(data_dir: Path, database_id: str) -> Path:
    """A database on its way from another shard."""
    return data_dir / "moving" / f"{database_id}.arriving"


def moving_object(data_dir: Path, database_id: str) -> Path:
    """A new file for an object of the archive on its way from another shard, or to one."""
    return data_dir / "moving" / f"{database_id}.{secrets.token_hex(4)}.object"


def clear_moving(data_dir: Path) -> None:
    """Remove what a killed process left of moves; each begins again with a copy."""
    shutil.rmtree(data_dir / "moving", ignore_errors=True)


def take_place(data_dir: Path, database: Database, arrived: Path) -> None:
    """The database's file is the one that arrived, durably."""
    file = path(data_dir, database)
    make_folder(file.parent)
    remove_file(file)
    arrived.replace(file)
    sync_folder(file.parent)


def part(file: Path) -> Path:
    """What a file is called while it is being made; nothing is there."""
    unfinished = file.with_name(f"{file.name}{_PART}")
    remove_file(unfinished)
    return unfinished


def finish(file: Path) -> None:
    """Give a file that was made its name, durably; its content is durable already."""
    # What a killed process left beside the name would be taken for this file's own.
    remove_file(file)
    file.with_name(f"{file.name}{_PART}").replace(file)
    sync_folder(file.parent)


def remove_file(file: Path) -> None:
    """Remove a database's file, last: a WAL that is left alone would be taken for another file's of this name."""
    for suffix in ("-wal", "-shm", "-journal", ""):
        file.with_name(f"{file.name}{suffix}").unlink(missing_ok=True)


def remove(data_dir: Path, database_id: str) -> None:
    """Remove every generation."""
    shutil.rmtree(folder(data_dir, database_id), ignore_errors=True)


def sweep(data_dir: Path, database_id: str, generations: Collection[int], backup_ids: Collection[str]) -> None:
    """Remove what is left of a killed process: all but these generations and the staged copies of these backups."""
    kept = {f"{number}.sqlite" for number in generations} | {f"{backup_id}{_STAGED}" for backup_id in backup_ids}
    place = folder(data_dir, database_id)
    for file in list(place.iterdir()) if place.exists() else []:
        if file.suffix in (".sqlite", _STAGED, _PART) and file.name not in kept:
            remove_file(file)
