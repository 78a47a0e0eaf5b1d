"""Open files: checkpoints between writes, and as many open as allowed."""

import asyncio
import threading
from typing import Any

import pytest

from tovuk_sqlite.limits import CHECKPOINT_BYTES

COUNT = "with recursive c(x) as (select 1 union all select x + 1 from c where x < {}) "
FILL = "insert into t " + COUNT + "select zeroblob(1000) from c"


def _main_bytes(node: Any) -> int:
    (path,) = node.data_dir.glob("databases/*/*/1.sqlite")
    size: int = path.stat().st_size
    return size


async def test_a_log_that_has_grown_is_copied_back_between_the_writes_of_others(node: Any) -> None:
    target = await node.create()
    await node.long(target, "create table t(a)")
    await node.long(target, FILL.format(CHECKPOINT_BYTES // 1_000))
    before = _main_bytes(node)
    writing = [asyncio.ensure_future(node.ask(target, "insert into t values (1)")) for _ in range(100)]
    await node.files.checkpoint()
    answers = await asyncio.gather(*writing)
    assert sum(answer["rowsWritten"] for answer in answers) == 100
    assert _main_bytes(node) > before + CHECKPOINT_BYTES // 2


async def test_a_small_log_stays(node: Any) -> None:
    target = await node.create()
    before = _main_bytes(node)
    await node.long(target, "create table t(a)")
    await node.files.checkpoint()
    assert _main_bytes(node) == before


async def test_a_log_that_was_copied_back_is_so_again_when_it_has_grown_as_much_again(node: Any) -> None:
    target = await node.create()
    await node.long(target, "create table t(a)")
    await node.long(target, FILL.format(CHECKPOINT_BYTES // 1_000))
    await node.files.checkpoint()
    before = _main_bytes(node)
    # The log's file is as large as before, and what it holds of it is small.
    await node.long(target, FILL.format(CHECKPOINT_BYTES // 4_000))
    await node.files.checkpoint()
    assert _main_bytes(node) == before
    await node.long(target, FILL.format(CHECKPOINT_BYTES // 1_000))
    await node.files.checkpoint()
    assert _main_bytes(node) > before + CHECKPOINT_BYTES


async def test_the_log_of_a_file_that_is_copied_is_copied_back_once_it_was_read(node: Any) -> None:
    target = await node.create()
    await node.long(target, "create table t(a)")
    database = await node.databases.directory.resolve(target)
    await node.long(target, FILL.format(CHECKPOINT_BYTES // 1_000))
    before, read = _main_bytes(node), []
    async with node.files.pinned(database) as pin:
        await node.files.checkpoint()
        assert _main_bytes(node) == before
        pin.follow = lambda: read.append(_main_bytes(node))
        await node.files.checkpoint()
        assert read == [before] and _main_bytes(node) > before + CHECKPOINT_BYTES // 2
    await node.long(target, FILL.format(CHECKPOINT_BYTES // 1_000))
    await node.files.checkpoint()
    assert read == [before]


async def test_more_files_than_may_be_open_are_all_answered(node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tovuk_sqlite.files.OPEN_ENTRIES_MAX", 2)
    targets = [await node.create(f"DB{index}") for index in range(6)]
    for _ in range(2):
        await asyncio.gather(*(node.long(target, "create table if not exists t(a)") for target in targets))
        await asyncio.gather(*(node.ask(target, "insert into t values (1)") for target in targets))
    for target in targets:
        assert (await node.ask(target, "select count(*) from t"))["rows"] == [[2]]


async def test_a_file_that_is_gone_is_told_and_harms_no_other(node: Any) -> None:
    target = await node.create()
    (path,) = node.data_dir.glob("databases/*/*/1.sqlite")
    other = await node.create("OTHER")
    path.unlink()
    answers = await asyncio.gather(node.long(target, "select 1"), node.long(other, "select 1"), return_exceptions=True)
    assert (answers[0].code, answers[1]["rows"]) == ("store_unavailable", [[1]])


async def test_a_file_is_closed_after_what_still_runs_for_a_caller_that_left(node: Any) -> None:
    target = await node.create()
    await node.long(target, "create table t(a)")
    database = await node.databases.directory.resolve(target)
    begun, go_on = threading.Event(), threading.Event()

    def job(writer: Any) -> int:
        begun.set()
        go_on.wait(30)
        return int(writer.storage_bytes())

    writing = asyncio.create_task(node.files.writing(database, job))
    await asyncio.to_thread(begun.wait, 30)
    writing.cancel()
    await asyncio.wait([writing])
    closing = asyncio.create_task(node.files.close_database(database.id))
    await asyncio.sleep(0.05)
    assert not closing.done()
    go_on.set()
    await closing
    assert (await node.long(target, "select count(*) from t"))["rows"] == [[0]]
