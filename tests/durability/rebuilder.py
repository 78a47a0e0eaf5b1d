"""The process that is killed: rebuilds the folder of a lost shard from an archive.

    python rebuilder.py FOLDER ARCHIVE STEP ENGINE DATABASE…

It kills itself before the STEP-th time that it opens, renames, makes, lists or removes a file or folder; 0 never.
"""

import asyncio
import sys
from pathlib import Path

from killed import kill_at
from sqlite_node import engine_of

from tovuk_kit.clock import SystemClock
from tovuk_sqlite.clients.control import Placed
from tovuk_sqlite.recovery import recover
from tovuk_sqlite.store.catalog import SqliteCatalog
from tovuk_sqlite.store.directory_archive import DirectoryArchive

LOST_STORE = "0123456789abcdef"


async def rebuild(folder: Path, archive: Path, step: int, engine_name: str, database_ids: list[str]) -> None:
    engine = engine_of(engine_name)
    placed = [Placed(name, f"DB{index}", "service", "account", 0) for index, name in enumerate(database_ids)]
    catalog = await SqliteCatalog.open(folder, engine.library, lost_store_id=LOST_STORE)
    assert catalog.unfinished and catalog.store_id == LOST_STORE
    if step:
        kill_at(step)
    whole = await recover(
        catalog,
        engine,
        DirectoryArchive(archive, LOST_STORE),
        folder,
        placed,
        SystemClock(),
        lambda loss: print(loss.said(accepted=True), file=sys.stderr),  # noqa: T201
        accept_data_loss=True,
    )
    if whole:
        await catalog.finish()
    await catalog.close()


if __name__ == "__main__":
    asyncio.run(rebuild(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5:]))
