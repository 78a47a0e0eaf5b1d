"""A plain keep-alive HTTP client for what surrounds a measurement: setting up, filling, reading back."""

import http.client
import json
import time
from collections.abc import Mapping
from typing import Any, Self

_JSON = "application/json"
_IDLE_S = 0.5


class UnexpectedAnswer(Exception):
    """A target answered something that makes its figures worthless."""


class Client:
    """One connection to a target on 127.0.0.1."""

    def __init__(self, port: int, headers: Mapping[str, str]) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._headers = dict(headers)
        self._used_at = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._connection.close()

    def ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """The answer's body; raises UnexpectedAnswer when its status is none of 2xx."""
        if time.monotonic() - self._used_at > _IDLE_S:
            # Servers close what was idle while a driver was at work.
            self._connection.close()
        self._connection.request(method, path, body, {**self._headers, **({"Content-Type": _JSON} if body else {})})
        answer = self._connection.getresponse()
        content = answer.read()
        self._used_at = time.monotonic()
        if not 200 <= answer.status < 300:
            raise UnexpectedAnswer(f"{method} {path} answered {answer.status}: {content[:500]!r}")
        return content

    def json(self, method: str, path: str, body: object = None) -> Any:
        """As `ask`, with JSON both ways."""
        return json.loads(self.ask(method, path, None if body is None else json.dumps(body).encode()))


def raw_request(method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """The bytes of one HTTP/1.1 request, as the load drivers replay it."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    if body:
        lines += [f"Content-Type: {_JSON}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body
