"""A NATS server's settings, as its monitoring shows them."""

import asyncio
import json

import pytest

from tovuk_kit.pipe import UnsafePipe, check_pipe

UNHEALTHY = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
SAFE = {"jetstream": {"config": {"store_dir": "/data", "sync_always": True}}}


async def monitor(varz: object, *, at_first: tuple[bytes, ...] = ()) -> tuple[asyncio.Server, str]:
    before = list(at_first)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if before:
            writer.write(before.pop(0))
        else:
            body = json.dumps(varz).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_server_that_syncs_every_message_is_taken_once_it_is_healthy() -> None:
    server, url = await monitor(SAFE, at_first=(b"", UNHEALTHY, UNHEALTHY))
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
