"""The process that is killed: backs a database up, writes to it, restores it, and says on stdout what was acknowledged.

    python restorer.py FOLDER STEP ENGINE

It kills itself before the STEP-th time that it opens, renames or removes a file after it was told to restore; 0 never.
"""

import asyncio
import os
import sys
from pathlib import Path

from killed import kill_at
from sqlite_node import Node, engine_of, sqlite_node

from tovuk_sqlite.directory import Target

WRITES_BEFORE = 10


async def write(node: Node, target: Target, first: int, count: int) -> None:
    for n in range(first, first + count):
        await node.run(target, ("insert into t values (?)", [n]))
        os.write(1, b"%d\n" % n)


async def main(folder: Path, step: int, engine: str) -> None:
    async with sqlite_node(folder, engine_of(engine)) as node:
        target = await node.create()
        await node.run(target, "create table t(v)", "insert into t values ('before')")
        backup = await node.backed_up(target)
        await write(node, target, 0, WRITES_BEFORE)
        if step:
            kill_at(step)
        restore = await node.backups.restore(target, "self_hosted", backup.id)
        os.write(1, b"begun\n")
        writing = asyncio.create_task(write(node, target, 1_000, 1_000_000))
        await node.until_restored(target, restore.id)
        await node.until_made(target, restore.safety_id)
        os.write(1, b"done\n")
        writing.cancel()
        await asyncio.wait([writing])


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
