"""A NATS server's settings, as its monitoring shows them."""

import asyncio
import json

import pytest

from tovuk_kit.pipe import UnsafePipe, check_pipe

SAFE = {"jetstream": {"config": {"store_dir": "/data", "sync_always": True}}}


async def monitor(varz: object, *, silent_first: int = 0) -> tuple[asyncio.Server, str]:
    left = silent_first

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        await reader.readuntil(b"\r\n\r\n")
        if left:
            left -= 1
        else:
            body = json.dumps(varz).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_server_that_syncs_every_message_is_taken_once_it_answers() -> None:
    server, url = await monitor(SAFE, silent_first=2)
    async with server:
        await check_pipe(url)


@pytest.mark.parametrize(
    ("varz", "reason"),
    [
        ({"jetstream": {"config": {"store_dir": "/data"}}}, "sync_interval: always"),
        ({"jetstream": {}}, "no JetStream"),
        ([], "no JetStream"),
    ],
)
async def test_a_server_that_may_lose_what_it_acknowledged_is_refused(varz: object, reason: str) -> None:
    server, url = await monitor(varz)
    async with server:
        with pytest.raises(UnsafePipe, match=reason):
            await check_pipe(url)


async def test_a_monitor_address_that_is_no_http_address_is_refused() -> None:
    with pytest.raises(UnsafePipe, match="TOVUK_NATS_MONITOR_URL"):
        await check_pipe("file:///etc/passwd")
