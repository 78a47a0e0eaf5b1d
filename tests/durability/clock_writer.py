"""The process that is killed: keeps a clock row in a database whose history is shipped, and says what was acknowledged.

    python clock_writer.py FOLDER ENGINE STEP

Each line is the time a row was written with. It kills itself before the STEP-th time that it opens, renames or removes
a file; 0 never.
"""

import asyncio
import os
import sys
import time
from pathlib import Path

from killed import FILES, kill_at
from sqlite_node import Node, engine_of, sqlite_node

from tovuk_sqlite import files, history, shipping
from tovuk_sqlite.directory import Target

TARGET = Target("account", "service", "DB")


async def write(node: Node) -> None:
    while True:
        now = time.time_ns() // 1_000_000
        more = ("insert into log values (?, randomblob(?))", [now, now % 7_000])
        await node.run(TARGET, ("update clock set ms = ?", [now]), more)
        os.write(1, b"%d\n" % now)
        await asyncio.sleep(0.003)


async def checkpoint(node: Node) -> None:
    while True:
        await node.files.checkpoint()
        await asyncio.sleep(0.05)


async def main(folder: Path, engine: str, step: int) -> None:
    # So that in a short life there are many checkpoints and bases.
    files.CHECKPOINT_BYTES = 100_000
    history.SEGMENTS_ENTRIES_MAX = 8
    shipping.SHIP_EVERY_S = 0.05
    async with sqlite_node(folder, engine_of(engine)) as node:
        if node.catalog.all() == []:
            await node.create()
            await node.run(TARGET, "create table clock(ms)", "create table log(ms, x)", "insert into clock values (0)")
        if step:
            kill_at(step, FILES)
        await asyncio.gather(write(node), checkpoint(node))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
