"""Bodies are strict JSON, bounded in bytes, depth, time and memory."""

import asyncio
import gzip
import tracemalloc
from collections.abc import Callable

import pytest

from tovuk_gateway import bodies, limits
from tovuk_gateway.chain import Disconnected, Message
from tovuk_gateway.errors import (
    BodyTooLarge,
    InvalidJson,
    InvalidRequest,
    RequestTimeout,
    UnsupportedMediaType,
)

Receive = Callable[[], "asyncio.Future[Message]"]


def _sent(*pieces: bytes, end: bool = True) -> Callable[[], object]:
    left = list(pieces) or [b""]

    async def receive() -> Message:
        if not left:
            return {"type": "http.disconnect"}
        piece = left.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(left) or not end}

    return receive


async def test_pieces_are_put_together() -> None:
    assert await bodies.whole(_sent(b'{"a"', b":1}"), {}, limit_bytes=100) == b'{"a":1}'


async def test_a_declared_length_beyond_the_limit_is_refused_unread() -> None:
    with pytest.raises(BodyTooLarge):
        await bodies.whole(_sent(b""), {"content-length": "101"}, limit_bytes=100)


async def test_a_body_that_outgrows_the_limit_is_refused() -> None:
    assert len(await bodies.whole(_sent(b"a" * 60, b"b" * 40), {}, limit_bytes=100)) == 100
    with pytest.raises(BodyTooLarge):
        await bodies.whole(_sent(b"a" * 60, b"b" * 41), {}, limit_bytes=100)


async def test_a_peer_that_leaves_is_not_answered() -> None:
    with pytest.raises(Disconnected):
        await bodies.whole(_sent(b"a", end=False), {}, limit_bytes=100)


async def test_a_body_that_stops_coming_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BODY_PAUSE_SECONDS_MAX", 0.01)

    async def never() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(RequestTimeout):
        await bodies.whole(never, {}, limit_bytes=100)


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"])
async def test_another_type_than_json_is_refused(kind: str) -> None:
    with pytest.raises(UnsupportedMediaType):
        await bodies.whole(_sent(b"{}"), {"content-type": kind}, limit_bytes=100)


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8", "application/vnd.x+json"])
async def test_json_types_are_taken(kind: str) -> None:
    assert await bodies.whole(_sent(b"{}"), {"content-type": kind}, limit_bytes=100) == b"{}"


async def test_gzip_is_taken_only_where_it_is_allowed() -> None:
    body = gzip.compress(b'{"keys":[]}')
    headers = {"content-encoding": "gzip"}
    assert await bodies.whole(_sent(body[:7], body[7:]), headers, limit_bytes=100, gzip=True) == b'{"keys":[]}'
    with pytest.raises(UnsupportedMediaType):
        await bodies.whole(_sent(body), headers, limit_bytes=100)
    with pytest.raises(UnsupportedMediaType):
        await bodies.whole(_sent(body), {"content-encoding": "br"}, limit_bytes=100, gzip=True)


async def test_a_gzip_file_of_several_members_is_read_whole() -> None:
    body = gzip.compress(b"[1,") + gzip.compress(b"2]")
    for cut in range(len(body)):
        read = await bodies.whole(
            _sent(body[:cut], body[cut:]), {"content-encoding": "gzip"}, limit_bytes=100, gzip=True
        )
        assert read == b"[1,2]"


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b"x" + b, lambda b: b[:10] + b"\x00" * 8, lambda b: b""]
)
async def test_broken_gzip_is_refused(damage: Callable[[bytes], bytes]) -> None:
    body = damage(gzip.compress(b'{"keys":["a"]}'))
    with pytest.raises(InvalidRequest):
        await bodies.whole(_sent(body), {"content-encoding": "gzip"}, limit_bytes=1000, gzip=True)


async def test_a_gzip_bomb_stops_at_the_limit_without_being_blown_up() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLarge):
            await bodies.whole(_sent(bomb), {"content-encoding": "gzip"}, limit_bytes=1_000_000, gzip=True)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "body",
    [
        b"NaN",
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'"\\ud800"',
        b'"\\udc00"',
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'{"a":1,}',
        b"{'a':1}",
        b"[1] 2",
        b"01",
        b'"\x01"',
        b"1e400",
        b"\xef\xbb\xbf{}",
        b"",
        b"[" * 65 + b"]" * 65,
        b'{"a":' * 65 + b"1" + b"}" * 65,
        b"[" * 100_000,
    ],
)
def test_what_is_not_strict_json_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidJson):
        bodies.strict_json(body)


def test_nesting_is_counted_outside_strings_and_up_to_the_limit() -> None:
    assert bodies.strict_json(b"[" * 64 + b"]" * 64)
    assert bodies.strict_json(b'["' + b"[" * 1000 + b'"]') == ["[" * 1000]
    assert bodies.strict_json(b"[" + b"[]," * 1000 + b"[]]")
    assert bodies.strict_json(b'["\\"[' + b"[" * 1000 + b'"]')


def test_the_last_of_several_keys_wins() -> None:
    assert bodies.strict_json(b'{"a":1,"a":2}') == {"a": 2}


async def test_the_gate_admits_in_order_and_within_its_bound() -> None:
    gate = bodies.Gate(100)
    order: list[str] = []

    async def use(name: str, size: int, release: asyncio.Event) -> None:
        async with gate.hold(size):
            order.append(name)
            await release.wait()

    first, second, third = asyncio.Event(), asyncio.Event(), asyncio.Event()
    tasks = [
        asyncio.create_task(use(*args))
        for args in (("first", 60, first), ("second", 60, second), ("small", 10, third), ("huge", 1000, third))
    ]
    await asyncio.sleep(0)
    assert order == ["first"]
    first.set()
    await asyncio.sleep(0.001)
    assert order == ["first", "second", "small"]
    second.set()
    third.set()
    await asyncio.gather(*tasks)
    assert order[-1] == "huge"


async def test_a_waiting_body_that_gives_up_leaves_its_place() -> None:
    gate = bodies.Gate(100)
    async with gate.hold(100):
        waiting = asyncio.create_task(_hold(gate, 50))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
    async with asyncio.timeout(1), gate.hold(100):
        pass


async def _hold(gate: bodies.Gate, size: int) -> None:
    async with gate.hold(size):
        pass
