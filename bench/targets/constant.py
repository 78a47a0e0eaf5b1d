"""The most that one gateway process could answer: a constant reply from uvicorn's protocol, without an application."""

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from bench.processes import free_port, listens, running
from bench.targets.base import JsonDialect, Running, Target
from bench.targets.naive import ROOT
from bench.workload import READ_KEYS, value_of


def reply() -> bytes:
    """One answer of a get, headers and body, as large as ours."""
    body = json.dumps({"key": READ_KEYS[0], "value": value_of(READ_KEYS[0]), "encoding": "text"}).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


_REPLY = reply()


class ConstantProtocol(HttpToolsProtocol):
    """Parses every request and answers it without looking."""

    def on_message_begin(self) -> None:
        """Nothing is kept of a request."""

    def on_url(self, url: bytes) -> None:
        """Not looked at."""

    def on_header(self, name: bytes, value: bytes) -> None:
        """Not looked at."""

    def on_headers_complete(self) -> None:
        """No application is started."""

    def on_body(self, body: bytes) -> None:
        """Not looked at."""

    def on_message_complete(self) -> None:
        """The answer leaves at once."""
        self.transport.write(_REPLY)


@dataclass(frozen=True, slots=True)
class _ConstantDialect(JsonDialect):
    def fill(self, client: Any) -> None:
        """It stores nothing."""

    def check(self, client: Any, operation: Any, written: int) -> None:
        """Nothing to be wrong: it answers READ_KEYS[0] to everything."""


@contextlib.contextmanager
def _start(folder: Path) -> Iterator[Running]:
    port = free_port()
    command = [sys.executable, "-m", "bench.targets.constant", str(port)]
    with running(command, log=folder / "constant.log", ready=listens(port), env={"PYTHONPATH": str(ROOT)}) as process:
        headers = {"Authorization": "Bearer " + "0" * 38}
        yield Running(port, (process,), _ConstantDialect("/v1/services/x/kv/BENCH", headers, frozenset({"get"})))


CONSTANT = Target("constant", "limit: a constant reply from uvicorn's httptools protocol, one process", _start)


async def _never(_scope: Any, _receive: Any, _send: Any) -> None:
    raise AssertionError("the protocol answers before the application")


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(
        _never,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http=ConstantProtocol,
        lifespan="off",
        log_level="warning",
    )
