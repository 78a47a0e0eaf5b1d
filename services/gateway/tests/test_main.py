"""A gateway process: it starts, shares its port, and ends in order."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest


def _start(house: Any, port: int, **env: str) -> subprocess.Popen[bytes]:
    settings = {
        "TOVUK_INTERNAL_KEY": house.settings().internal_key.get_secret_value(),
        "TOVUK_GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "TOVUK_CONTROL_TARGET": house.target("control"),
        "TOVUK_METERING_TARGET": house.target("metering"),
        "TOVUK_KV_TARGETS": house.target("kv"),
    }
    command = [str(Path(sys.executable).parent / "tovuk-gateway")]
    return subprocess.Popen(command, env={**os.environ, **settings, **env}, stderr=subprocess.PIPE)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


async def _until_healthy(port: int) -> None:
    async with asyncio.timeout(30), httpx.AsyncClient(verify=False) as client:
        while True:
            try:
                if (await client.get(f"http://127.0.0.1:{port}/healthz")).status_code == 200:
                    return
            except httpx.HTTPError:
                await asyncio.sleep(0.05)


async def _until_it_heeds_signals(pid: int) -> None:
    caught = 0
    async with asyncio.timeout(30):
        while not caught >> (signal.SIGTERM - 1) & 1:
            await asyncio.sleep(0.05)
            status = await asyncio.to_thread(Path(f"/proc/{pid}/status").read_text)
            caught = int(status.partition("SigCgt:")[2].split()[0], 16)


async def test_processes_share_a_port_and_end_in_order(house: Any) -> None:
    port = _free_port()
    processes = [_start(house, port)]
    try:
        await _until_healthy(port)
        processes.append(_start(house, port))
        processes[0].send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(processes[0].wait, 20) == 0
        await _until_healthy(port)
        processes[1].send_signal(signal.SIGINT)
        assert await asyncio.to_thread(processes[1].wait, 20) == 0
    finally:
        for process in processes:
            process.kill()


async def test_it_listens_in_the_end_without_the_others_and_says_so(house: Any) -> None:
    port = _free_port()
    process = _start(
        house, port, TOVUK_CONTROL_TARGET="unix:/nowhere/control.sock", TOVUK_GATEWAY_START_WAIT_SECONDS="0.1"
    )
    try:
        await _until_healthy(port)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", verify=False) as client:
            assert (await client.get("/readyz")).status_code == 503
    finally:
        process.terminate()
        assert process.wait(20) == 0


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_while_it_waits_for_the_others_ends_it(house: Any, sent: signal.Signals) -> None:
    process = _start(house, _free_port(), TOVUK_CONTROL_TARGET="unix:/nowhere/control.sock")
    try:
        await _until_it_heeds_signals(process.pid)
        process.send_signal(sent)
        assert await asyncio.to_thread(process.wait, 10) == 0
    finally:
        process.kill()


def test_every_problem_of_the_settings_is_printed_and_no_secret() -> None:
    command = [str(Path(sys.executable).parent / "tovuk-gateway")]
    env = {"PATH": os.environ["PATH"], "TOVUK_INTERNAL_KEY": "short", "TOVUK_GATEWAY_LISTEN": "nonsense"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    for name in ("TOVUK_INTERNAL_KEY", "TOVUK_GATEWAY_LISTEN", "TOVUK_CONTROL_TARGET", "TOVUK_KV_TARGETS"):
        assert name in done.stderr
    assert "short" not in done.stderr.replace("should have", "")
