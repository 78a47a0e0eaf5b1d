"""Load on the public HTTP API: many keep-alive connections, every answer judged, what was never answered remembered."""

import asyncio
import contextlib
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

CONNECTIONS = 64
#: In a row, on one connection, after which it stops asking.
_REFUSALS = 3
_PAUSE_S = 0.05
_ANSWER_WITHIN_S = 90.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_ENVELOPE = {"code", "message", "agent_instruction", "docs_url", "retryable", "outcome", "request_id"}


class NeverAnswered(Exception):
    """The connection ended before an answer; `sent` says whether the request may have arrived."""

    def __init__(self, *, sent: bool) -> None:
        super().__init__()
        self.sent = sent


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and its body. An error always has the whole envelope: building one without it fails."""

    status: int
    head: bytes
    body: bytes

    def __post_init__(self) -> None:
        if self.status >= 400:
            missing = _ENVELOPE - self.json.keys()
            assert not missing, f"{self.status} without {missing}: {self.body[:400]!r}"

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)

    @property
    def ok(self) -> bool:
        """Whether it was done."""
        return 200 <= self.status < 300

    @property
    def code(self) -> str:
        """The error's code; empty when there is none."""
        return str(self.json["code"]) if self.status >= 400 else ""


class _Wire(asyncio.Protocol):
    """One connection with at most one request under way."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.lost = False
        self._received = bytearray()
        self._waiter: asyncio.Future[Answer] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        answer = _whole(self._received)
        if answer is not None and self._waiter is not None and not self._waiter.done():
            self._received.clear()
            try:
                self._waiter.set_result(Answer(*answer))
            except AssertionError as failure:
                self._waiter.set_exception(failure)

    def connection_lost(self, _: Exception | None) -> None:
        self.lost = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(NeverAnswered(sent=True))

    async def send(self, request: bytes) -> Answer:
        assert self.transport is not None
        self._waiter = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await asyncio.wait_for(self._waiter, _ANSWER_WITHIN_S)


def _whole(received: bytearray) -> tuple[int, bytes, bytes] | None:
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    head, body = bytes(received[:end]), received[end + 4 :]
    status = int(head[9:12])
    length = _LENGTH.search(head)
    if length is not None:
        return (status, head, bytes(body)) if len(body) >= int(length[1]) else None
    if not _CHUNKED.search(head):
        return status, head, b""
    return (status, head, b"".join(_chunks(bytes(body)))) if body.endswith(b"\r\n0\r\n\r\n") else None


def _chunks(body: bytes) -> Iterator[bytes]:
    at = 0
    while True:
        line = body.index(b"\r\n", at)
        size = int(body[at:line], 16)
        if size == 0:
            return
        yield body[line + 2 : line + 2 + size]
        at = line + 2 + size + 2


class Client:
    """One keep-alive connection with a token, opened again when it broke."""

    def __init__(self, url: str, token: str) -> None:
        self._host, _, port = url.removeprefix("http://").partition(":")
        self._port = int(port)
        self._head = f"host: {self._host}:{port}\r\nauthorization: Bearer {token}\r\n".encode()
        self._wire: _Wire | None = None

    async def send(self, method: str, path: str, body: Any = None) -> Answer:
        """One request. Raises NeverAnswered."""
        content = b"" if body is None else json.dumps(body).encode()
        head = self._head
        if body is not None:
            head += b"content-type: application/json\r\n"
        request = b"%b %b HTTP/1.1\r\n%bcontent-length: %d\r\n\r\n" % (
            method.encode(),
            path.encode(),
            head,
            len(content),
        )
        if self._wire is None or self._wire.lost:
            try:
                _, self._wire = await asyncio.get_running_loop().create_connection(_Wire, self._host, self._port)
            except OSError as problem:
                raise NeverAnswered(sent=False) from problem
        return await self._wire.send(request + content)

    def close(self) -> None:
        """End the connection."""
        if self._wire is not None and self._wire.transport is not None:
            self._wire.transport.abort()


@dataclass(frozen=True, slots=True)
class Request:
    """One request and the units it is charged when it is done."""

    method: str
    path: str
    body: Any = None
    units: int = 1
    #: What the test knows it by.
    name: str = ""


class Outcome(Enum):
    """What the caller knows."""

    DONE = "done"
    #: 429 or 402 of a cap: no unit is left with anyone.
    REFUSED = "refused"
    #: Surely not done.
    NOT_DONE = "not done"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Attempt:
    """A request with what became of it; moments are the loop's."""

    request: Request
    outcome: Outcome
    began: float
    ended: float
    status: int = 0
    code: str = ""


@dataclass(slots=True)
class Load:
    """Requests over many connections, until each was refused some times in a row or `enough` says so."""

    url: str
    token: str
    rng: random.Random
    attempts: list[Attempt] = field(default_factory=list)
    #: Units done so far.
    done: int = 0
    #: Told of every attempt as it ends.
    heard: Callable[[Attempt], None] | None = None

    async def run(
        self,
        requests: Callable[[], Request],
        *,
        connections: int = CONNECTIONS,
        enough: Callable[[], bool] | None = None,
        pace_s: float = 0.0,
        within_s: float = 120.0,
    ) -> None:
        """Returns when every connection has stopped; fails when that takes too long. `pace_s` parts its requests."""
        async with asyncio.timeout(within_s):
            await asyncio.gather(*(self._connection(requests, enough, pace_s) for _ in range(connections)))

    async def _connection(
        self, requests: Callable[[], Request], enough: Callable[[], bool] | None, pace_s: float
    ) -> None:
        client = Client(self.url, self.token)
        refusals = 0
        await asyncio.sleep(self.rng.random() * 0.1)
        with contextlib.closing(client):
            while refusals < _REFUSALS if enough is None else not enough():
                attempt = await self._attempt(client, requests())
                refusals = refusals + 1 if attempt.outcome is Outcome.REFUSED else 0
                pause_s = pace_s if attempt.outcome is Outcome.DONE else _PAUSE_S
                if pause_s:
                    await asyncio.sleep(pause_s * (0.5 + self.rng.random()))

    async def _attempt(self, client: Client, request: Request) -> Attempt:
        now = asyncio.get_running_loop().time
        began = now()
        try:
            answer = await client.send(request.method, request.path, request.body)
        except NeverAnswered as end:
            attempt = Attempt(request, Outcome.UNKNOWN if end.sent else Outcome.NOT_DONE, began, now())
        else:
            attempt = Attempt(request, _outcome(answer), began, now(), answer.status, answer.code)
        if attempt.outcome is Outcome.DONE:
            self.done += request.units
        self.attempts.append(attempt)
        if self.heard is not None:
            self.heard(attempt)
        return attempt

    def of(self, outcome: Outcome) -> list[Attempt]:
        """The attempts that ended so."""
        return [attempt for attempt in self.attempts if attempt.outcome is outcome]

    def early_refusals(self) -> list[Attempt]:
        """Refusals although at least as many units were left as the request wanted: they were done later."""
        done = self.of(Outcome.DONE)
        return [
            refused
            for refused in self.of(Outcome.REFUSED)
            if sum(later.request.units for later in done if later.began > refused.ended) >= refused.request.units
        ]


def _outcome(answer: Answer) -> Outcome:
    # A key that is not there was looked for, and the look is charged.
    if answer.ok or answer.code == "kv_key_not_found":
        return Outcome.DONE
    if answer.code in {"usage_cap_reached", "payment_required"}:
        return Outcome.REFUSED
    assert answer.status in {503, 507}, f"{answer.status} {answer.body[:400]!r}"
    return Outcome.UNKNOWN if answer.json["outcome"] == "unknown" else Outcome.NOT_DONE
