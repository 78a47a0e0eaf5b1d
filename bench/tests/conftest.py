"""What the tests of the measurement share: `bench` importable, the drivers there, servers that misbehave on purpose."""

import os
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.load import MissingTool, tool

Answer = Callable[[int], bytes]


@pytest.fixture(scope="session")
def drivers() -> None:
    """wrk and Go are there; a missing one fails in CI, where they are installed."""
    try:
        tool("wrk", "apt-get install wrk")
        tool("go", "apt-get install golang-go")
    except MissingTool as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(str(missing))
        pytest.skip(str(missing))


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], int]]:
    """Starts a server whose n-th request, from 0, gets `answer(n)`; returns its port."""
    servers: list[socketserver.ThreadingTCPServer] = []

    def start(answer: Answer) -> int:
        turn, count = threading.Lock(), iter(range(10**9))

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while (line := self.rfile.readline()) and line != b"\r\n":
                    while self.rfile.readline() not in (b"\r\n", b""):
                        pass
                    # One at a time: while an answer waits, all wait, as behind one event loop.
                    with turn:
                        reply = answer(next(count))
                    self.wfile.write(reply)
                    if b"Connection: close" in reply:
                        return

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request: object, client_address: object) -> None:
                """Drivers end their connections in mid-answer: that is no error of the test's."""

        server = Server(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return int(server.server_address[1])

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def _reply(status: str = "200 OK", extra: str = "", body: bytes = b"{}") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body


@pytest.fixture
def ok() -> bytes:
    """A good answer."""
    return _reply()


@pytest.fixture
def refused() -> bytes:
    """An answer that is no success."""
    return _reply("429 Too Many Requests")


@pytest.fixture
def closing() -> bytes:
    """A good answer after which the connection ends."""
    return _reply(extra="Connection: close\r\n")


@pytest.fixture
def chunked() -> bytes:
    """A good answer in two chunks."""
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"


@pytest.fixture
def stall() -> Callable[[float], None]:
    """Holds up whoever calls it, and with it the server."""
    return time.sleep
