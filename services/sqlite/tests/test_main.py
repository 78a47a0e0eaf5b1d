"""The real process, with an extension of another version, or a folder of another process."""

import asyncio
import fcntl
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

Start = Callable[..., Awaitable[Process]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts the service where the extension has nothing but the number of another version."""
    (tmp_path / "tovuk_sqlite_native.py").write_text("INTERFACE = 1\n")
    started: list[Process] = []

    async def start(*arguments: str, **said: str) -> Process:
        variables = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(tmp_path),
            "TOVUK_INTERNAL_KEY": "internal-key-of-the-tests",
            "TOVUK_NATS_URL": "nats://127.0.0.1:1",
            "TOVUK_SQLITE_LISTEN": f"unix:{tmp_path}/main.sock",
            "TOVUK_SQLITE_DATA_DIR": f"{tmp_path}/data",
            "TOVUK_CONTROL_TARGET": f"unix:{tmp_path}/control.sock",
            "TOVUK_METERING_TARGET": f"unix:{tmp_path}/metering.sock",
            **said,
        }
        command = (sys.executable, "-m", "tovuk_sqlite.main", *arguments)
        started.append(await asyncio.create_subprocess_exec(*command, env=variables, stderr=PIPE))
        return started[-1]

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_an_extension_of_another_version_is_left_alone_and_told(start: Start) -> None:
    process = await start()
    assert process.stderr is not None
    async with asyncio.timeout(30):
        said = [await process.stderr.readline() for _ in range(2)]
    assert b"of another version and not used; run make native" in said[0]
    assert b"opened by stock SQLite" in said[1]


async def test_an_extension_of_another_version_that_must_be_used_is_refused(start: Start) -> None:
    process = await start(TOVUK_SQLITE_ENGINE="native")
    async with asyncio.timeout(30):
        _, errors = await process.communicate()
    assert process.returncode == 1
    assert b"run make native" in errors


async def test_a_folder_that_another_process_has_is_told_in_one_line(start: Start, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with (tmp_path / "data" / "catalog.sqlite.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        process = await start(TOVUK_SQLITE_ENGINE="stock")
        async with asyncio.timeout(30):
            _, errors = await process.communicate()
    assert process.returncode == 1
    assert errors.splitlines()[-1].startswith(b"tovuk-sqlite does not start: ") and b"Traceback" not in errors


async def test_a_rebuild_without_a_control_says_that_it_goes_on_when_it_is_run_again(
    start: Start, tmp_path: Path
) -> None:
    process = await start("rebuild", TOVUK_SQLITE_ENGINE="stock", TOVUK_SQLITE_ARCHIVE_URL=f"file://{tmp_path}/archive")
    async with asyncio.timeout(30):
        _, errors = await process.communicate()
    assert process.returncode == 1
    assert b"goes on when it is run again: service_unavailable" in errors and b"Traceback" not in errors
