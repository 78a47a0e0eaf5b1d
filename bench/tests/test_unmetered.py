import subprocess
import sys
from pathlib import Path

import pytest

#: Puts one value through the SQLite engine and prints the value, the usage rows and the level.
PROGRAM = """
import asyncio, sys
from pathlib import Path
import bench.unmetered
from tovuk_kv.store import sqlite
from tovuk_kv.store.base import Lookup, Namespace, Put

async def main(folder, unmetered):
    if unmetered:
        bench.unmetered.remove_meters()
    store = await sqlite.SqliteStore.open(Path(folder))
    await store.create(Namespace("kv_1", "A", "service_1", "account_1", 0))
    namespace = await store.find("service_1", "A")
    usage = store.usage_stores[0]
    epoch = await usage.begin_epoch()
    await usage.set_allowance("account_1", "kv_storage_bytes", 1, 2**62)
    put = Put(b"key", b"value", "text", b"", "", "")
    put.namespace, put.epoch, put.lease_id = namespace, epoch, 1
    done = asyncio.get_running_loop().create_future()
    put.done = done.set_result
    store.apply([put], 0)
    await done
    found = []
    store.read([Lookup(namespace, b"key", found.append)], 0)
    level = await usage.level("account_1", "kv_storage_bytes")
    print(found[0].value.decode(), len(await usage.usage(epoch, None)), level.bytes)
    await store.close()

asyncio.run(main(sys.argv[1], sys.argv[2] == "unmetered"))
"""


@pytest.mark.parametrize(("how", "printed"), [("metered", "value 1 8"), ("unmetered", "value 0 0")])
def test_without_meters_the_value_is_stored_and_nothing_is_counted(tmp_path: Path, how: str, printed: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), how],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert ended.stdout.strip() == printed, ended.stderr
