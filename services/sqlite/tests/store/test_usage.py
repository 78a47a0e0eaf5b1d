from pathlib import Path

from tovuk_sqlite.store.base import Charge, Database, Engine
from tovuk_sqlite.store.catalog import SqliteCatalog
from tovuk_sqlite.store.usage import FolderUsage

_DATABASE = Database("sqlite_1", "DB", "service_1", "account_1", 0)


async def test_totals_of_a_files_commits_are_taken_in_any_order(tmp_path: Path, engine: Engine) -> None:
    async def writing(*_: object) -> None:
        raise AssertionError("no file is asked")

    catalog = await SqliteCatalog.open(tmp_path, engine.library)
    usage = FolderUsage(catalog, writing, lambda: None)
    # Commits that charge the same lease: 1 unit, 5 units, 1 unit.
    usage.add_written(_DATABASE, {Charge("s", 1, 7, 1): 107, Charge("s", 1, 7, 5): 106})
    assert [row.units for row in await usage.usage(1, [7])] == [107]
    usage.add_written(_DATABASE, {Charge("s", 1, 7, 3): 110})
    assert [row.units for row in await usage.usage(1, [7])] == [110]
    await catalog.close()
