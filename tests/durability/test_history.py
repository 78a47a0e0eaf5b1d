"""The history of a database across processes that are killed: nothing acknowledged is lost, every moment is there."""

import asyncio
import contextlib
import random
import subprocess
import sys
import threading
from pathlib import Path

import apsw
import pytest
from sqlite_node import engine_of, sqlite_node, until

from tovuk_sqlite.directory import Target
from tovuk_sqlite.store import expiry

HERE = Path(__file__).parent
SUPPORT = HERE.parent / "support"
TARGET = Target("account", "service", "DB")
SHORT_KILLS, FULL_KILLS = 6, 50
SHORT_INSTANTS, FULL_INSTANTS = 12, 50
#: A kill may come before what was committed last is shipped, on a slow machine long before; the next process knows only
#: when the file was written last.
WITHIN_MS = 3_000


def run_until_killed(folder: Path, engine: str, step: int, lives_s: float) -> list[int]:
    """What the process acknowledged."""
    command = [sys.executable, str(HERE / "clock_writer.py"), str(folder), engine, str(step)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={"PYTHONPATH": str(SUPPORT)}) as child:
        assert child.stdout is not None
        first = child.stdout.readline()
        watchdog = threading.Timer(lives_s, child.kill)
        watchdog.start()
        rest = child.stdout.read()
        watchdog.cancel()
    # A line may be cut short: then its work was not acknowledged.
    return [int(line) for line in (first + rest).split(b"\n")[:-1]]


def shown(path: Path) -> int:
    with contextlib.closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)) as file:
        assert file.execute("pragma integrity_check").get == "ok"
        clock, newest = file.execute("select ms, (select coalesce(max(ms), 0) from log) from clock").fetchall()[0]
    assert clock == newest
    return int(clock)


@pytest.mark.parametrize("engine", ["stock", "native"])
async def test_every_moment_of_processes_that_were_killed_is_there_within_a_second(tmp_path, pytestconfig, engine):
    engine_of(engine)
    full = pytestconfig.getoption("full")
    chance = random.Random(11)
    folder = tmp_path / "data"
    told: list[int] = []
    for kill in range(FULL_KILLS if full else SHORT_KILLS):
        step = chance.randrange(5, 80) if kill % 2 else 0
        told += run_until_killed(folder, engine, step, 0.3 + chance.random())
    assert len(told) > 100
    async with sqlite_node(folder, engine_of(engine)) as node:
        assert {ms for (ms,) in await node.run(TARGET, "select ms from log")} >= set(told)
        database = await node.databases.directory.resolve(TARGET)
        chain = node.history.chain(database.id, 1)
        await until(lambda: not chain.commits and chain.position is not None and not chain.base_wanted)
        earliest_ms = expiry.earliest_ms(node.archive, database.id)
        assert earliest_ms is not None and earliest_ms <= told[0] + WITHIN_MS
        for number in range(FULL_INSTANTS if full else SHORT_INSTANTS):
            at_ms = chance.choice([ms for ms in told if ms > earliest_ms + 100]) + chance.randrange(20)
            path = tmp_path / f"then-{number}"
            await asyncio.to_thread(node.history.rebuild, database.id, 1, at_ms, path)
            found = shown(path)
            least = max((ms for ms in told if ms <= at_ms - WITHIN_MS), default=0)
            assert least <= found <= at_ms
