"""Limits without HTTP: what the engines do by themselves, with as many callers as the load has connections."""

import asyncio
import csv
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import apsw
import uvloop

from bench.load import tool
from bench.targets.naive import ROOT
from bench.targets.redis import redis_server
from bench.workload import CONNECTIONS, READ_KEYS, VALUE_BYTES, WRITE_KEYS, Operation, value_of
from tovuk_kit.sqlite import SqliteFile
from tovuk_kit.sqlite_apsw import ApswLibrary

#: redis-benchmark takes a number of requests, no time; this many for each second asked for.
_REDIS_REQUESTS_PER_S = 50_000
_GRACE_S = 60.0


@dataclass(frozen=True, slots=True)
class Limit:
    """A name, one line on what it is, and how to measure it in an empty folder: answers a second by operation."""

    name: str
    meaning: str
    measure: Callable[[Path, float], dict[Operation, float]]


def _redis(folder: Path, seconds: float) -> dict[Operation, float]:
    with redis_server(folder) as redis:
        rates: dict[str, float] = {}
        # A set first: the gets then find something.
        for command in ("set", "get"):
            asked = subprocess.run(
                [
                    tool("redis-benchmark", "apt-get install redis-tools"),
                    *("-h", "127.0.0.1", "-p", str(redis.port), "-c", str(CONNECTIONS), "-d", str(VALUE_BYTES)),
                    *("-n", str(int(_REDIS_REQUESTS_PER_S * seconds)), "-r", str(len(WRITE_KEYS)), "-t", command),
                    "--csv",
                ],
                capture_output=True,
                text=True,
                check=True,
                timeout=_GRACE_S + 20 * seconds,
            )
            rates[command] = float(next(csv.DictReader(io.StringIO(asked.stdout)))["rps"])
    return {"get": rates["get"], "put": rates["set"]}


def _in_a_process(folder: Path, seconds: float, *, module: str) -> dict[Operation, float]:
    # Of its own: the store changes how the interpreter switches threads.
    asked = subprocess.run(
        [sys.executable, "-m", module, str(folder), str(seconds)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=_GRACE_S + 10 * seconds,
    )
    rates: dict[Operation, float] = json.loads(asked.stdout)
    return rates


async def engine_rates(folder: Path, seconds: float) -> dict[Operation, float]:
    """Reads and durable writes a second of the kit's SQLite file, in this process."""
    file = SqliteFile.open(folder / "engine.sqlite", ApswLibrary())
    await file.write(
        lambda connection: connection.execute("CREATE TABLE entry (key TEXT PRIMARY KEY, value TEXT)").fetchall()
    )

    async def put(key: str) -> None:
        def work(connection: apsw.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO entry VALUES (?, ?)", (key, value_of(key)))

        await file.write(work)

    def get(key: str) -> object:
        return file.read(lambda connection: connection.execute("SELECT value FROM entry WHERE key = ?", (key,)).get)

    await asyncio.gather(*(put(key) for key in READ_KEYS))
    reads, started_at = 0, time.perf_counter()
    while (read_s := time.perf_counter() - started_at) < seconds:
        for key in READ_KEYS:
            get(key)
        reads += len(READ_KEYS)

    writes, started_at = 0, time.perf_counter()

    async def write_on() -> None:
        nonlocal writes
        while time.perf_counter() - started_at < seconds:
            await put(WRITE_KEYS[writes % len(WRITE_KEYS)])
            writes += 1

    await asyncio.gather(*(write_on() for _ in range(CONNECTIONS)))
    written_s = time.perf_counter() - started_at
    await file.close()
    return {"get": reads / read_s, "put": writes / written_s}


LIMITS = (
    Limit("redis-benchmark", f"limit: Redis with appendfsync always, {CONNECTIONS} connections", _redis),
    Limit(
        "engine-sqlite",
        f"limit: the kit's SQLite file in process, {CONNECTIONS} writers, one reader",
        partial(_in_a_process, module="bench.limits"),
    ),
    Limit("apsw", "limit: bare apsw in process, one thread, synced", partial(_in_a_process, module="bench.bare")),
)


def measure(limit: Limit, seconds: float, parent: Path) -> dict[Operation, float]:
    """The limit's rates, measured in a folder of its own below `parent`."""
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        return limit.measure(Path(folder), seconds)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(uvloop.run(engine_rates(Path(sys.argv[1]), float(sys.argv[2])))))
