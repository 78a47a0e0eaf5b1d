"""What the embedded engine does with files: values beside, orphans, a crash."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tovuk_kit.sqlite import FileInUse
from tovuk_kv.store.sqlite import SqliteStore


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "kv"


@pytest.fixture
async def kv(folder: Path, driver: Any) -> Any:
    store = await SqliteStore.open(folder)
    driven = driver(store)
    await driven.begin()
    yield driven
    await driven.store.close()


def files(folder: Path) -> list[Path]:
    return [path for path in (folder / "values").glob("*/*") if path.is_file()]


async def test_a_large_value_is_one_file_that_goes_with_its_key(kv: Any, folder: Path) -> None:
    namespace = await kv.namespace()
    for _ in range(2):
        await kv.put(namespace, b"big", await kv.upload(namespace, b"big", b"x" * 300_000))
    await kv.put(namespace, b"gone", await kv.upload(namespace, b"gone", b"y" * 300_000), expires_at=1)
    await kv.store.close()
    assert [path.stat().st_size for path in files(folder)] == [300_000]
    kv.store = await SqliteStore.open(folder)
    await kv.begin()
    await kv.delete(namespace, b"big")
    await kv.store.close()
    assert files(folder) == []
    kv.store = await SqliteStore.open(folder)


async def test_orphans_are_swept_at_start_and_linked_files_stay(kv: Any, folder: Path) -> None:
    namespace = await kv.namespace()
    await kv.put(namespace, b"big", await kv.upload(namespace, b"big", b"x" * 300_000))
    await kv.upload(namespace, b"orphan", b"y" * 300_000)
    unfinished = await kv.store.upload("service_1", b"unfinished")
    await unfinished.write(b"z" * 1000)
    await kv.store.close()
    assert len(files(folder)) == 3
    kv.store = await SqliteStore.open(folder)
    assert len(files(folder)) == 1
    assert await kv.read_large(namespace, b"big") == b"x" * 300_000


async def test_everything_survives_a_restart_with_the_stores_identity(kv: Any, folder: Path) -> None:
    namespace = await kv.namespace()
    stored = await kv.put(namespace, b"k", b"value")
    name, key = kv.store.usage_stores[0].name, kv.store.cursor_key
    (old_epoch,) = kv.epochs
    await kv.store.close()
    kv.store = await SqliteStore.open(folder)
    assert (kv.store.usage_stores[0].name, kv.store.cursor_key) == (name, key)
    await kv.begin()
    assert await kv.store.usage_stores[0].dead_epochs() == [old_epoch]
    assert (await kv.get(namespace, b"k")).version == stored.version
    again = await kv.put(namespace, b"k", b"value")
    assert again.version > stored.version


async def test_a_second_process_is_refused(kv: Any, folder: Path) -> None:
    with pytest.raises(FileInUse):
        await SqliteStore.open(folder)


WRITER = """
import asyncio, sys
from pathlib import Path
from tovuk_kv.store.base import Namespace, Put
from tovuk_kv.store.sqlite import SqliteStore

async def main():
    store = await SqliteStore.open(Path(sys.argv[1]))
    epoch = await store.usage_stores[0].begin_epoch()
    await store.usage_stores[0].set_allowance("account_1", "kv_storage_bytes", 1, 2**62)
    if await store.find("service_1", "CACHE") is None:
        await store.create(Namespace("kv_" + "0" * 20, "CACHE", "service_1", "account_1", 0))
    namespace = await store.find("service_1", "CACHE")
    loop = asyncio.get_running_loop()
    for number in range(1_000_000):
        key = f"{epoch}-{number}".encode()
        value = key
        if number % 10 == 0:
            value = await store.upload("service_1", key)
            await value.write(key * 30_000)
            await value.finish()
        put = Put(key, value, "text", b"", "", "")
        put.namespace, put.epoch, put.lease_id = namespace, epoch, 1
        future = loop.create_future()
        put.done = future.set_result
        store.apply([put], 1)
        await future
        print(key.decode(), flush=True)

asyncio.run(main())
"""


async def test_nothing_acknowledged_is_missing_after_kills(folder: Path, driver: Any) -> None:
    acknowledged: list[bytes] = []
    for _ in range(4):
        command = [sys.executable, "-c", WRITER, str(folder)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: ASYNC220  # nothing else runs here
        assert process.stdout is not None
        for line in process.stdout:
            acknowledged.append(line.strip())
            if line.endswith(b"-25\n"):
                os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert len(acknowledged) >= 4 * 26
    kv = driver(await SqliteStore.open(folder))
    namespace = await kv.store.find("service_1", "CACHE")
    found = await kv.get_all(namespace, acknowledged)
    for key, record in zip(acknowledged, found, strict=True):
        value = record.value if record.value is not None else await kv.read_large(namespace, key)
        assert value in (key, key * 30_000)
    page = await kv.store.page(namespace, b"", None, 100_000, kv.now_ms)
    usage = kv.store.usage_stores[0]
    await usage.begin_epoch()
    rows = [row for epoch in await usage.dead_epochs() for row in await usage.usage(epoch, None)]
    assert sum(row.units for row in rows) == len(page) >= len(acknowledged)
    assert len(files(folder)) == sum(entry.value_bytes > 65_536 for entry in page)
    assert await kv.stored() == sum(len(entry.key) + entry.value_bytes for entry in page)
    await kv.store.close()
