from pathlib import Path

from tovuk_sqlite.store.base import Engine
from tovuk_sqlite.store.catalog import SqliteCatalog
from tovuk_sqlite.store.usage import FolderUsage


async def _epoch(catalog: SqliteCatalog) -> int:
    async def writing(*_: object) -> None:
        raise AssertionError("no file is asked")

    return await FolderUsage(catalog, writing, lambda: None).begin_epoch()


async def test_a_folder_that_takes_a_lost_ones_place_is_the_same_store_with_higher_epochs(
    tmp_path: Path, engine: Engine
) -> None:
    lost = await SqliteCatalog.open(tmp_path / "lost", engine.library)
    assert not lost.unfinished
    epochs = [await _epoch(lost) for _ in range(3)]
    rebuilt = await SqliteCatalog.open(tmp_path / "rebuilt", engine.library, lost_store_id=lost.store_id)
    assert rebuilt.store_name == lost.store_name
    assert rebuilt.lock_id != lost.lock_id
    assert await _epoch(rebuilt) > max(epochs)
    await lost.close()
    await rebuilt.close()


async def test_a_folder_that_only_waited_for_its_shard_may_take_a_lost_ones_place(
    tmp_path: Path, engine: Engine
) -> None:
    waited = await SqliteCatalog.open(tmp_path, engine.library)
    assert waited.store_id != "0123"
    await waited.close()
    rebuilt = await SqliteCatalog.open(tmp_path, engine.library, lost_store_id="0123")
    assert rebuilt.store_id == "0123" and rebuilt.unfinished
    await rebuilt.close()


async def test_a_folder_that_served_takes_no_lost_ones_place(tmp_path: Path, engine: Engine) -> None:
    served = await SqliteCatalog.open(tmp_path, engine.library)
    await _epoch(served)
    await served.close()
    kept = await SqliteCatalog.open(tmp_path, engine.library, lost_store_id="0123")
    assert kept.store_id == served.store_id and not kept.unfinished
    await kept.close()


async def test_a_folder_is_unfinished_until_everything_is_back(tmp_path: Path, engine: Engine) -> None:
    for _ in range(2):
        catalog = await SqliteCatalog.open(tmp_path, engine.library, lost_store_id="0123")
        assert catalog.unfinished
        await catalog.close()
    catalog = await SqliteCatalog.open(tmp_path, engine.library)
    await catalog.finish()
    assert not catalog.unfinished
    await catalog.close()


async def test_either_engine_opens_the_folder_of_the_other(
    tmp_path: Path, engine: Engine, other_engine: Engine
) -> None:
    catalog = await SqliteCatalog.open(tmp_path, engine.library)
    store_id = catalog.store_id
    await catalog.note_plan("account", "pro")
    await catalog.close()
    again = await SqliteCatalog.open(tmp_path, other_engine.library)
    assert (again.store_id, again.plan("account")) == (store_id, "pro")
    await again.close()
