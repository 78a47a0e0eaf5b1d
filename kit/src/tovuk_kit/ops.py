"""The ops endpoint: /healthz, /readyz and /metrics over plain HTTP, for probes and scrapers."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from tovuk_kit.telemetry import render_metrics

#: Bytes a request's head may have, and seconds it may take to arrive.
_HEAD_BYTES_MAX = 8 * 1024
_HEAD_S = 5.0

_TEXT = "text/plain; charset=utf-8"
_METRICS = "text/plain; version=0.0.4; charset=utf-8"

_logger = logging.getLogger(__name__)


class OpsEndpoint:
    """A server on the service's own loop, so that a stuck loop fails its liveness probe. One request a connection."""

    def __init__(self, is_ready: Callable[[], Awaitable[bool]]) -> None:
        self._is_ready = is_ready
        self._server: asyncio.Server | None = None
        #: The bound port.
        self.port = 0

    @classmethod
    async def listen(cls, address: str, is_ready: Callable[[], Awaitable[bool]]) -> "OpsEndpoint":
        """A listening endpoint on host:port; OSError when the port is taken."""
        endpoint = cls(is_ready)
        host, _, port = address.rpartition(":")
        endpoint._server = await asyncio.start_server(
            endpoint._connected, host.strip("[]"), int(port), limit=_HEAD_BYTES_MAX
        )
        endpoint.port = endpoint._server.sockets[0].getsockname()[1]
        return endpoint

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_HEAD_S):
                head = await reader.readuntil(b"\r\n\r\n")
            status, content_type, body = await self._answer(head.split(b"\r\n", 1)[0])
            writer.write(
                f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
                "Connection: close\r\n\r\n".encode()
                + body
            )
            await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass
        except Exception:
            _logger.exception("the ops endpoint failed")
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, request_line: bytes) -> tuple[str, str, bytes]:
        match request_line.split(b" "):
            case [b"GET", b"/healthz", _]:
                return "200 OK", _TEXT, b"ok\n"
            case [b"GET", b"/readyz", _]:
                if await self._is_ready():
                    return "200 OK", _TEXT, b"ready\n"
                return "503 Service Unavailable", _TEXT, b"not ready\n"
            case [b"GET", b"/metrics", _]:
                return "200 OK", _METRICS, render_metrics()
            case _:
                return "404 Not Found", _TEXT, b"not found\n"
