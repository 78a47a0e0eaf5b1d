"""The process whose disk fills up below large values: prints what it saw as JSON.

python full_disk.py FOLDER    (a small filesystem of its own)
"""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from tovuk_kit.errors import StorageFull
from tovuk_kit.usage import UNLIMITED
from tovuk_kv.store.base import Delete, Deleted, Mutation, Namespace, Put, Result, Stored
from tovuk_kv.store.sqlite import SqliteStore

METER = "kv_storage_bytes"
VALUE = os.urandom(1 << 20)
NOW_MS = 1_800_000_000_000


class Scenario:
    def __init__(self, store: SqliteStore, namespace: Namespace, epoch: int) -> None:
        self.store = store
        self.namespace = namespace
        self.epoch = epoch

    @classmethod
    async def begin(cls, folder: Path) -> "Scenario":
        store = await SqliteStore.open(folder)
        epoch = await store.usage_stores[0].begin_epoch()
        await store.create(Namespace("kv_1", "CACHE", "service_1", "account_1", 0))
        await store.usage_stores[0].set_allowance("account_1", METER, 1, UNLIMITED)
        namespace = await store.find("service_1", "CACHE")
        assert namespace is not None
        return cls(store, namespace, epoch)

    async def put(self, key: bytes) -> bool:
        """Whether a large value found room; `storage_full` is the only reason why not."""
        upload = await self.store.upload("service_1", key)
        try:
            for start in range(0, len(VALUE), 1 << 18):
                await upload.write(VALUE[start : start + (1 << 18)])
            await upload.finish()
        except StorageFull:
            await upload.abandon()
            return False
        result = await self.apply(Put(key, upload, "base64", b"", "", ""))
        if isinstance(result, StorageFull):
            await upload.abandon()
            return False
        assert isinstance(result, Stored), result
        return True

    async def delete(self, key: bytes) -> bool:
        return await self.apply(Delete(key, "", "")) == Deleted(True)

    async def apply(self, mutation: Mutation) -> Result:
        mutation.namespace, mutation.epoch, mutation.lease_id = self.namespace, self.epoch, 1
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        mutation.done = future.set_result
        self.store.apply([mutation], NOW_MS)
        return await future

    async def read(self, key: bytes) -> bytes:
        value = await self.store.open_value(self.namespace, key, NOW_MS)
        assert value is not None
        try:
            return b"".join([chunk async for chunk in value.chunks()])  # type: ignore[union-attr]
        finally:
            await value.close()  # type: ignore[union-attr]


def fill_up(path: Path) -> None:
    """Take all the room there is."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass


async def becomes(true: Callable[[], bool]) -> bool:
    for _ in range(500):
        if true():
            return True
        await asyncio.sleep(0.01)
    return False


def files_below(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))


async def main(folder: Path) -> dict[str, object]:
    values = folder / "values"
    run = await Scenario.begin(folder)
    stored: list[bytes] = []
    while await run.put(key := b"k%d" % len(stored)):
        stored.append(key)
    seen: dict[str, object] = {"values stored": len(stored), "nothing left behind": files_below(values) == len(stored)}
    fill_up(folder / "ballast")
    seen["still full"] = not await run.put(b"other")
    seen["nothing left behind when no byte is free"] = files_below(values) == len(stored)
    seen["reads go on"] = await run.read(stored[-1]) == VALUE
    level = await run.store.usage_stores[0].level("account_1", METER)
    seen["the level knows what is there"] = level.bytes == sum(len(key) + len(VALUE) for key in stored)
    gone = stored[: 2 * len(stored) // 3]
    seen["deletes go on"] = all([await run.delete(key) for key in gone])
    left = len(stored) - len(gone)
    seen["deleted files are gone"] = await becomes(lambda: files_below(values) == left)
    # The database takes its reserve back first.
    for _ in range(500):
        if again := await run.put(b"again"):
            break
        await asyncio.sleep(0.01)
    seen["deletes make room"] = again and await run.read(b"again") == VALUE
    seen["nothing left behind at the end"] = files_below(values) == left + 1
    await run.store.close()
    return seen


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(Path(sys.argv[1])))))  # noqa: T201  # for the test
