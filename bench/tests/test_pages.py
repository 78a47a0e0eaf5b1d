from collections.abc import Callable
from pathlib import Path

from bench.client import raw_request
from bench.load import paged_loop, read_requests, write_requests

Answer = Callable[[int], bytes]


def answer(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


def requests(folder: Path) -> Path:
    return write_requests([raw_request("POST", "/query", {"X": "y"}, b'{"sql":"x"}')], folder / "requests")


def test_a_result_is_asked_for_until_it_has_no_cursor(serve: Callable[[Answer], int], tmp_path: Path) -> None:
    asked: list[int] = []

    def page(number: int) -> bytes:
        asked.append(number)
        return answer(b'{"rows":[],"cursor":null}' if number % 3 == 2 else b'{"rows":[],"cursor":"more"}')

    load = paged_loop(serve(page), requests(tmp_path), 0.3)
    assert load.errors == 0
    assert load.requests > 0
    assert len(asked) == 3 * load.requests


def test_a_refused_page_makes_the_result_an_error(serve: Callable[[Answer], int], tmp_path: Path) -> None:
    refusing = serve(lambda _number: answer(b"{}", "429 Too Many Requests"))
    load = paged_loop(refusing, requests(tmp_path), 0.2)
    assert load.errors == load.requests > 0


def test_requests_are_read_as_they_were_written(tmp_path: Path) -> None:
    written = [b"a\n1", b"", b"\r\n\r\n{}"]
    assert read_requests(write_requests(written, tmp_path / "requests")) == written
