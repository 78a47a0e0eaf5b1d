"""The real process: it starts, serves, ends in order; and refuses what could lose writes."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import pytest

from tovuk.kv.v1 import kv_pb2 as wire
from tovuk.kv.v1.kv_pb2_grpc import KvAdminStub
from tovuk_kit.client import Channel

KEY = "internal-key-of-the-tests"


def environment(folder: Path, **said: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "TOVUK_INTERNAL_KEY": KEY,
        "TOVUK_KV_LISTEN": f"unix:{folder}/main.sock",
        "TOVUK_CONTROL_TARGET": f"unix:{folder}/control.sock",
        "TOVUK_METERING_TARGET": f"unix:{folder}/metering.sock",
        **said,
    }


async def start(variables: dict[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(sys.executable, "-m", "tovuk_kv.main", env=variables, stderr=PIPE)


@pytest.mark.parametrize("house", ["sqlite"], indirect=True)
async def test_the_process_serves_and_ends_in_order(house: Any, tmp_path: Path, nats_url: str) -> None:
    data = {"TOVUK_KV_ENGINE": "sqlite", "TOVUK_KV_DATA_DIR": f"{tmp_path}/main", "TOVUK_NATS_URL": nats_url}
    process = await start(environment(tmp_path, **data))
    channel = Channel(f"unix:{tmp_path}/main.sock", KEY, "kv")
    try:
        request = wire.ListNamespacesRequest(service_id=house.service)
        admin = KvAdminStub(channel.grpc)
        assert not (await channel.unary(admin.ListNamespaces, request, timeout_s=20, retry=True)).namespaces
        create = wire.CreateNamespaceRequest(account_id=house.account, service_id=house.service, name="CACHE")
        created = await channel.unary(admin.CreateNamespace, create, retry=False)
        assert list((await channel.unary(admin.ListNamespaces, request, retry=True)).namespaces) == [created]
    finally:
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 20) == 0
        await channel.close()


async def test_a_redis_that_could_lose_writes_is_refused(redis_server: Any, tmp_path: Path) -> None:
    redis_server.cli("CONFIG", "SET", "appendfsync", "everysec")
    process = await start(environment(tmp_path, TOVUK_KV_ENGINE="redis", TOVUK_KV_REDIS_URL=redis_server.url))
    _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 1
    assert b"appendfsync is everysec, must be always" in errors
