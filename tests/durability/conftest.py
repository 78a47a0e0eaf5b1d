"""What the crash tests share: the writing child and the check of what it left."""

import contextlib
import importlib.util
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import apsw
import pytest

from tovuk_kit.sqlite import SqliteFile
from tovuk_kit.sqlite_apsw import ApswLibrary

HERE = Path(__file__).parent
CHILD_SECONDS_MAX = 60


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"durability_{name}", HERE / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def writer() -> ModuleType:
    return _load("writer")


Run = Callable[..., set[int]]


@pytest.fixture
def run_and_kill() -> Run:
    """Start the writer, let it acknowledge `count` works, wait `pause` s, `kill -9`; returns what was acknowledged."""

    def run(database: Path, first: int, *options: str, count: int, pause: float) -> set[int]:
        command = [sys.executable, str(HERE / "writer.py"), str(database), str(first), *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            assert child.stdout
            watchdog = threading.Timer(CHILD_SECONDS_MAX, child.kill)
            watchdog.start()
            try:
                lines = [child.stdout.readline() for _ in range(count)]
                assert lines[-1], "the writer ended by itself"
                time.sleep(pause)
            finally:
                child.kill()
                watchdog.cancel()
            # A line may be cut short: then its work was not acknowledged.
            rest = child.stdout.read().split(b"\n")[:-1]
        return {int(line) for line in (*lines, *rest)}

    return run


@pytest.fixture
def losses(writer: ModuleType) -> Callable[[Path, set[int]], "list[str]"]:
    """What is wrong with a database after a crash, given all that was ever acknowledged."""

    def check(connection: apsw.Connection, acknowledged: set[int]) -> list[str]:
        problems = [f"integrity: {row[0]}" for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
        events = dict(connection.execute("SELECT n, payload FROM event"))
        slots = {row[0]: row[1:] for row in connection.execute("SELECT id, version, payload FROM slot")}
        newest: dict[int, int] = {}
        for n in acknowledged:
            newest[n % 50] = max(newest.get(n % 50, 0), n)
            taken = (n + 500) % 3 == 0
            if n not in events and not (taken and n + 500 <= max(acknowledged) + writer.IN_FLIGHT):
                problems.append(f"event {n} is missing")
            if n in events and taken and n + 500 in acknowledged:
                problems.append(f"event {n} is back")
        problems += [f"event {n} is damaged" for n, data in events.items() if data != writer.payload(n)]
        problems += [f"slot {s} went back from {n}" for s, n in newest.items() if slots.get(s, (0,))[0] < n]
        problems += [f"slot {s} is damaged" for s, (version, data) in slots.items() if data != writer.payload(version)]
        return problems

    async def examine(database: Path, acknowledged: set[int]) -> list[str]:
        try:
            file = SqliteFile.open(database, ApswLibrary(), reserve_bytes=65536)
        except Exception as error:  # noqa: BLE001 -- any failure is a finding
            return [f"cannot be opened: {error!r}"]
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(file.close)
            try:
                return file.read(lambda connection: check(connection, acknowledged))
            except Exception as error:  # noqa: BLE001 -- any failure is a finding
                return [f"cannot be read: {error!r}"]

    return examine
