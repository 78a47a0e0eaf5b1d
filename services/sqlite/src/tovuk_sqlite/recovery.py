"""A shard whose folder is lost, rebuilt in another one from what was shipped: at most the last second is missing.

Each database is made whole before the catalog has it, so a process that is killed goes on with the next run.
"""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

from tovuk_kit.clock import Clock
from tovuk_kit.files import make_folder
from tovuk_sqlite.clients.control import Placed
from tovuk_sqlite.store import copies, generation, rebuild, segments
from tovuk_sqlite.store.archive import Archive
from tovuk_sqlite.store.backups import BackupRows, Kept, described, objects
from tovuk_sqlite.store.base import Database, Engine
from tovuk_sqlite.store.catalog import SqliteCatalog

_log = logging.getLogger(__name__)


async def recover(
    catalog: SqliteCatalog, engine: Engine, archive: Archive, data_dir: Path, placed: Sequence[Placed], clock: Clock
) -> None:
    """Rebuild what lies at the shard and is not in the catalog, durably, one after the other.

    Ours the shard must be: nobody else may ship meanwhile. Raises segments.Damaged, StoreUnavailable, StorageFull.
    """
    rows = BackupRows(catalog.file)
    for told in placed:
        if catalog.get(told.id) is not None:
            continue
        now_ms = clock.wall_ms()
        numbers = await asyncio.to_thread(_begun, archive, told.id)
        # Of the next one the lost process may have made a base, or be about to, if it is not as lost as it looks.
        number = numbers[0] + 2 if numbers else 1
        database = Database(told.id, told.name, told.service_id, told.account_id, told.created_at_ms, number)
        size = await asyncio.to_thread(_rebuild, engine, archive, data_dir, database, numbers, now_ms)
        await rows.put(database.id, await asyncio.to_thread(_kept, archive, database, numbers, now_ms))
        await catalog.create(database, size)
        _log.info("database %s is rebuilt", told.id)


def _begun(archive: Archive, database_id: str) -> list[int]:
    """The database's generations, the newest first; what a restore has left of one that had not begun is removed."""
    numbers = sorted(map(int, archive.names(segments.folder(database_id))), reverse=True)
    if numbers and not any(group.segments for group in rebuild.groups(archive, database_id, numbers[0])):
        archive.remove_folder(segments.folder(database_id, numbers.pop(0)))
    return numbers


def _rebuild(
    engine: Engine, archive: Archive, data_dir: Path, database: Database, numbers: Sequence[int], now_ms: int
) -> int:
    """Make the database's file from the newest generation that has a base; its bytes."""
    file = generation.path(data_dir, database)
    with copies.faults():
        make_folder(file.parent)
        part = generation.part(file)
        for number in numbers:
            try:
                rebuild.rebuild(archive, database.id, number, now_ms, 0, part)
            except rebuild.NoHistory:
                continue
            break
        else:
            _log.warning("nothing was shipped of database %s, which was new; it is empty", database.id)
            engine.create(part)
        copies.clean(engine, part)
        copies.check(engine, part)
        size = part.stat().st_size
        generation.finish(file)
        return size


def _kept(archive: Archive, database: Database, numbers: Sequence[int], now_ms: int) -> Kept:
    """What the archive says of the database. A generation of which no end is known ended with its last commit."""
    backups = [described(database.id, name) for name in archive.names(objects(database.id))]
    ends = {number: rebuild.last_ms(rebuild.groups(archive, database.id, number)) for number in numbers[1:]}
    return Kept(backups, [], {**ends, **dict.fromkeys(numbers[:1], now_ms)})
