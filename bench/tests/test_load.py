import contextlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bench.client import raw_request
from bench.load import DriverFailed, closed_loop, open_loop, write_requests

pytestmark = pytest.mark.usefixtures("drivers")

Serve = Callable[[Callable[[int], bytes]], int]


@contextlib.contextmanager
def recording(paths: list[str]) -> Iterator[int]:
    """A server that notes the path of every request; yields its port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    return write_requests([raw_request("GET", f"/{number}", {}) for number in range(3)], tmp_path / "requests")


def test_the_closed_loop_counts_every_status_that_is_no_success(
    serve: Serve, requests: Path, ok: bytes, refused: bytes
) -> None:
    port = serve(lambda number: refused if number % 10 == 9 else ok)
    load = closed_loop(port, requests, 4, 1)
    assert load.requests > 10
    assert load.requests // 10 - 4 <= load.errors <= load.requests // 10 + 4


def test_the_open_loop_counts_every_status_that_is_no_success(
    serve: Serve, requests: Path, ok: bytes, refused: bytes
) -> None:
    port = serve(lambda number: refused if number % 10 == 9 else ok)
    load = open_loop(port, requests, 4, 1, 200)
    assert load.errors == load.requests // 10


def test_both_drivers_send_the_requests_in_turn_from_the_first(tmp_path: Path) -> None:
    requests = write_requests([raw_request("GET", f"/{number}", {}) for number in range(10)], tmp_path / "requests")
    for closed in (True, False):
        paths: list[str] = []
        with recording(paths) as port:
            if closed:
                closed_loop(port, requests, 1, 1)
            else:
                open_loop(port, requests, 1, 1, 50)
        assert paths[:12] == [f"/{number % 10}" for number in range(12)]


def test_a_stall_is_charged_to_every_request_that_waited_meanwhile(
    serve: Serve, requests: Path, ok: bytes, stall: Callable[[float], None]
) -> None:
    def answer(number: int) -> bytes:
        if number == 5:
            stall(0.8)
        return ok

    load = open_loop(serve(answer), requests, 4, 1, 200)
    assert load.errors == 0
    # Most of the second's requests had their moment in the stall, though only one was under way on each connection.
    assert load.p50_ms > 100
    closed = closed_loop(serve(answer), requests, 4, 1)
    assert closed.p50_ms < load.p50_ms


def test_chunked_answers_are_understood(serve: Serve, requests: Path, chunked: bytes) -> None:
    load = open_loop(serve(lambda _number: chunked), requests, 4, 1, 100)
    assert load.errors == 0
    assert load.requests > 50


def test_a_connection_the_server_closes_is_replaced(serve: Serve, requests: Path, ok: bytes, closing: bytes) -> None:
    load = open_loop(serve(lambda number: closing if number % 5 == 4 else ok), requests, 4, 1, 100)
    assert load.errors == 0
    assert load.requests > 50


def test_a_server_that_is_not_there_is_no_measurement(requests: Path) -> None:
    with pytest.raises(DriverFailed):
        open_loop(1, requests, 4, 1, 100)
