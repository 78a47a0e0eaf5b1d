import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from tovuk.control.v1 import control_pb2 as wire
from tovuk.control.v1 import control_pb2_grpc as grpc_wire
from tovuk_kit.client import Channel
from tovuk_kit.notices import Notices
from tovuk_kit.tokens import digest

KEY = "an internal key of tests"


@pytest.fixture
def environment(tmp_path: Path, database_url: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TOVUK_")}
    return {
        **inherited,
        "TOVUK_INTERNAL_KEY": KEY,
        "TOVUK_CONTROL_LISTEN": f"unix:{tmp_path}/control.sock",
        "TOVUK_CONTROL_DATABASE_URL": database_url,
        "TOVUK_METERING_TARGET": f"unix:{tmp_path}/metering.sock",
        "TOVUK_CONTROL_BOOTSTRAP_FILE": f"{tmp_path}/token",
    }


@asynccontextmanager
async def control(environment: dict[str, str], *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    command = (sys.executable, "-m", "tovuk_control.main", *arguments)
    process = await asyncio.create_subprocess_exec(*command, env=environment, stderr=asyncio.subprocess.PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def whose(target: str, secret: str) -> wire.Caller:
    channel = Channel(target, KEY, "control")
    try:
        request = wire.AuthenticateRequest(token_sha256=digest(secret))
        stub = grpc_wire.DirectoryStub(channel.grpc)
        caller: wire.Caller = await channel.unary(stub.Authenticate, request, timeout_s=30, retry=True)
    finally:
        await channel.close()
    return caller


def written(file: Path) -> str:
    end = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    return file.read_text().strip()


async def test_a_start_answers_ends_on_sigterm_and_a_killed_one_is_resumed(
    environment: dict[str, str], tmp_path: Path
) -> None:
    target = environment["TOVUK_CONTROL_LISTEN"]
    async with control(environment) as process:
        secret = await asyncio.to_thread(written, tmp_path / "token")
        owner = await whose(target, secret)
        assert list(owner.scopes) == ["user", "operator"]
        process.send_signal(signal.SIGKILL)
        await process.wait()
    async with control(environment) as process:
        assert (await whose(target, secret)).account_id == owner.account_id
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            assert await process.wait() == 0


async def test_changes_are_noticed_over_nats(environment: dict[str, str], tmp_path: Path, nats_url: str) -> None:
    subjects: asyncio.Queue[str] = asyncio.Queue()
    notices = Notices()
    notices.subscribe("tovuk.changed.services.*", lambda subject, _: subjects.put_nowait(subject))
    await notices.connect(nats_url)
    target = environment["TOVUK_CONTROL_LISTEN"]
    async with control({**environment, "TOVUK_NATS_URL": nats_url}):
        owner = await whose(target, await asyncio.to_thread(written, tmp_path / "token"))
        channel = Channel(target, KEY, "control")
        stub = grpc_wire.ServicesStub(channel.grpc)
        # Control and this test connect to NATS in their own time, and notices before that are lost by design.
        for number in range(300):
            request = wire.CreateServiceRequest(account_id=owner.account_id, name=f"s-{number}", kind="fullstack")
            await channel.unary(stub.CreateService, request, retry=False)
            with suppress(TimeoutError):
                heard = await asyncio.wait_for(subjects.get(), 0.1)
                break
        await channel.close()
    await notices.close()
    assert heard == f"tovuk.changed.services.{owner.account_id}"


async def test_migrate_goes_down_and_up_and_refuses_a_version_that_is_not_there(environment: dict[str, str]) -> None:
    for arguments, status in ((["migrate"], 0), (["migrate", "0"], 0), (["migrate"], 0), (["migrate", "999"], 1)):
        async with control(environment, *arguments) as process, asyncio.timeout(60):
            _, errors = await process.communicate()
            assert process.returncode == status, errors.decode()
            assert b"Traceback" not in errors
