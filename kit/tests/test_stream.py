"""The stream's two sides, each against grpcio, against one another, and against peers that misbehave byte by byte."""

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import hpack
import pytest

from tovuk.common.v1.common_pb2 import Frame
from tovuk_kit import http2
from tovuk_kit import stream as module
from tovuk_kit.client import Channel, data_target
from tovuk_kit.exchange import Exchange
from tovuk_kit.http2 import PREFACE, End, frame, number_frame, settings_frame
from tovuk_kit.server import RunningServer
from tovuk_kit.stream import ServedStream, Stream, open_stream

PATH = "/tests.Frames/Exchange"
Host = Callable[..., Awaitable[RunningServer]]
GrpcioHost = Callable[..., Awaitable[grpc.aio.Server]]
Method = Callable[..., Any]


async def echo(requests: AsyncIterator[Frame], context: Any) -> AsyncIterator[Frame]:
    await context.send_initial_metadata(())
    async for request in requests:
        yield request


class Item:
    """An operation that is its bytes."""

    id = 0

    def __init__(self, payload: bytes) -> None:
        self.payload = payload


def echoing() -> Exchange[Item, Item]:
    return Exchange(
        method=PATH,
        decode=lambda payload: [Item(payload)],
        encode=lambda items: b"".join(item.payload for item in items),
        handle=lambda op, reply: reply(op),
    )


class Client:
    """Our client's side, with what came of it in a queue."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[bytes] = asyncio.Queue()
        self.opened = asyncio.Event()
        self.stream: Stream

    async def open(self, target: str, metadata: tuple[tuple[str, str], ...] = ()) -> "Client":
        self.stream = await open_stream(
            target,
            PATH,
            metadata,
            on_open=lambda _: self.opened.set(),
            on_message=self.messages.put_nowait,
            on_room=lambda: None,
        )
        return self

    async def next(self) -> bytes:
        async with asyncio.timeout(10):
            return await self.messages.get()

    async def end(self) -> End:
        async with asyncio.timeout(10):
            await asyncio.wait([self.stream.ended])
        return self.stream.ended.result()


async def until(predicate: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not predicate():  # noqa: ASYNC110 nobody tells what a callback did
            await asyncio.sleep(0.001)


def message(payload: bytes) -> bytes:
    return Frame(payload=payload).SerializeToString()


def gathered(payload: bytes) -> bytes:
    return struct.pack(">BL", 0, len(message(payload))) + message(payload)


@pytest.fixture
def key(internal_key: str) -> tuple[tuple[str, str], ...]:
    return (("tovuk-internal-key", internal_key),)


@pytest.fixture
def data_path(address: str) -> str:
    return data_target(address).removeprefix("unix:")


SIZES = (0, 1, 16_379, 16_384, 65_535, 65_536, 1_048_576, 3_000_000)


async def test_our_client_talks_to_a_grpcio_server(grpcio_host: GrpcioHost, address: str) -> None:
    await grpcio_host(Exchange=echo)
    client = await Client().open(data_target(address))
    async with asyncio.timeout(10):
        await client.opened.wait()
    # Windows of 64 KiB at first, so that the large ones wait for room both ways.
    for size in SIZES:
        client.stream.send(message(b"x" * size))
    for size in SIZES:
        assert await client.next() == message(b"x" * size)
    client.stream.close()
    assert (await client.end()).status is grpc.StatusCode.CANCELLED


@pytest.mark.parametrize("status", [grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED])
async def test_our_client_learns_how_a_grpcio_server_ended(
    grpcio_host: GrpcioHost, address: str, status: grpc.StatusCode
) -> None:
    async def leave(requests: AsyncIterator[Frame], context: Any) -> AsyncIterator[Frame]:
        yield Frame(payload=b"1")
        if status is not grpc.StatusCode.OK:
            await context.abort(status, "the words ä %")

    await grpcio_host(Exchange=leave)
    client = await Client().open(data_target(address))
    assert await client.next() == message(b"1")
    assert await client.end() == End(status, "" if status is grpc.StatusCode.OK else "the words ä %")


async def test_a_grpcio_client_talks_to_our_server(host: Host, data_channel: Channel, method: Method) -> None:
    await host(exchange=echoing())
    call = method(data_channel, "Exchange", "stream_stream")(metadata=data_channel.metadata(), timeout=20)

    async def write() -> None:
        for size in SIZES:
            await call.write(Frame(payload=b"x" * size))
        await call.done_writing()

    writing = asyncio.create_task(write())
    received = b""
    async for reply in call:
        received += reply.payload
    await writing
    assert len(received) == sum(SIZES)
    assert await call.code() is grpc.StatusCode.OK
    # The connection had its stream; the next call of the same channel finds another.
    call = method(data_channel, "Exchange", "stream_stream")(metadata=data_channel.metadata(), timeout=20)
    await call.write(Frame(payload=b"again"))
    assert (await call.read()).payload == b"again"
    call.cancel()


async def test_a_grpcio_client_with_the_wrong_key_or_method_is_told(
    host: Host, data_channel: Channel, method: Method
) -> None:
    await host(exchange=echoing())
    for name, metadata, status in (
        ("Exchange", (), grpc.StatusCode.UNAUTHENTICATED),
        ("Exchange", (("tovuk-internal-key", "wrong"),), grpc.StatusCode.UNAUTHENTICATED),
        ("Another", data_channel.metadata(), grpc.StatusCode.UNIMPLEMENTED),
    ):
        call = method(data_channel, name, "stream_stream")(metadata=metadata, timeout=10)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is status
        if status is grpc.StatusCode.UNAUTHENTICATED:
            assert "tovuk-error-bin" in {name for name, _ in caught.value.trailing_metadata() or ()}


async def test_both_sides_of_ours_carry_large_messages_under_small_windows(
    host: Host, address: str, key: tuple[tuple[str, str], ...]
) -> None:
    await host(exchange=echoing())
    client = await Client().open(data_target(address), key)
    async with asyncio.timeout(10):
        await client.opened.wait()
    for size in SIZES * 3:
        client.stream.send(message(b"y" * size))
    received = 0
    while received < sum(SIZES) * 3:
        received += len(Frame.FromString(await client.next()).payload)
    client.stream.close()


async def test_served_stream_whose_client_half_closes_answers_and_ends_with_ok(
    host: Host, data_channel: Channel, method: Method
) -> None:
    replies: list[Callable[[], None]] = []
    exchange = Exchange(
        method=PATH,
        decode=lambda payload: [Item(payload)],
        encode=lambda items: items[0].payload,
        handle=lambda op, reply: replies.append(lambda: reply(op)),
    )
    await host(exchange=exchange)
    call = method(data_channel, "Exchange", "stream_stream")(metadata=data_channel.metadata(), timeout=10)
    await call.write(Frame(payload=b"late"))
    await call.done_writing()
    await until(lambda: bool(replies))
    replies[0]()
    assert [reply.payload async for reply in call] == [b"late"]
    assert await call.code() is grpc.StatusCode.OK


class Raw:
    """A client of bare bytes, and what it reads as frames."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()

    async def open(self) -> "Raw":
        self.reader, self.writer = await asyncio.open_unix_connection(self.path)
        return self

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    def head(self, key: str, *more: tuple[str, str]) -> bytes:
        path = [(":method", "POST"), (":scheme", "http"), (":path", PATH), (":authority", "x")]
        return self.encoder.encode([*path, ("te", "trailers"), ("tovuk-internal-key", key), *more])

    async def frame(self) -> tuple[int, int, int, bytes]:
        async with asyncio.timeout(5):
            high, low, kind, flags, stream = struct.unpack(">HBBBL", await self.reader.readexactly(9))
            payload = await self.reader.readexactly(high << 8 | low)
        if kind == http2.HEADERS:
            payload = repr(self.decoder.decode(payload)).encode()
        return kind, flags, stream, payload

    async def until(self, kind: int) -> tuple[int, int, bytes]:
        while True:
            found, flags, stream, payload = await self.frame()
            if found == kind:
                return flags, stream, payload

    async def closed(self) -> None:
        async with asyncio.timeout(5):
            with suppress(ConnectionError):
                await self.reader.read(-1)

    def close(self) -> None:
        self.writer.close()


@pytest.fixture
async def raw(host: Host, data_path: str) -> AsyncIterator[Raw]:
    await host(exchange=echoing())
    raw = await Raw(data_path).open()
    yield raw
    raw.close()


def padded(payload: bytes) -> bytes:
    return b"\x07" + payload + bytes(7)


async def test_padding_continuations_priorities_pings_and_unknown_frames_are_understood(
    raw: Raw, internal_key: str
) -> None:
    block = raw.head(internal_key, ("x-long", "z" * 300))
    raw.say(PREFACE + settings_frame(()) + frame(0xEE, 0, 0, b"greased"))
    raw.say(frame(http2.HEADERS, http2.PADDED | http2.PRIORITY, 1, padded(b"\0\0\0\0\x10" + block[:50])))
    raw.say(frame(http2.CONTINUATION, 0, 1, block[50:51]) + frame(http2.CONTINUATION, 0, 1, b""))
    raw.say(frame(http2.CONTINUATION, http2.END_HEADERS, 1, block[51:]))
    raw.say(frame(http2.PING, 0, 0, b"12345678"))
    assert await raw.until(http2.PING) == (http2.ACK, 0, b"12345678")
    _, _, head = await raw.until(http2.HEADERS)
    assert b"200" in head
    half = gathered(b"hello")
    raw.say(frame(http2.DATA, http2.PADDED, 1, padded(half[:3])) + frame(http2.DATA, 0, 1, b""))
    raw.say(frame(http2.DATA, http2.PADDED | http2.END_STREAM, 1, padded(half[3:])))
    assert (await raw.until(http2.DATA))[2] == half
    flags, _, trailers = await raw.until(http2.HEADERS)
    assert flags & http2.END_STREAM
    assert b"'grpc-status', '0'" in trailers


async def test_bytes_one_by_one_are_understood(raw: Raw, internal_key: str) -> None:
    said = PREFACE + settings_frame([(http2.SETTING_INITIAL_WINDOW_SIZE, 70_000)])
    said += frame(http2.HEADERS, http2.END_HEADERS, 1, raw.head(internal_key))
    said += frame(http2.DATA, 0, 1, gathered(b"a") + gathered(b"b")[:4]) + frame(http2.DATA, 0, 1, gathered(b"b")[4:])
    for byte in said:
        raw.say(bytes([byte]))
        await asyncio.sleep(0)
    received = b""
    while received not in (gathered(b"a") + gathered(b"b"), gathered(b"ab")):
        received += (await raw.until(http2.DATA))[2]


async def test_second_stream_of_a_connection_is_refused_and_the_first_goes_on(raw: Raw, internal_key: str) -> None:
    raw.say(PREFACE + settings_frame(()) + frame(http2.HEADERS, http2.END_HEADERS, 1, raw.head(internal_key)))
    await raw.until(http2.HEADERS)
    raw.say(frame(http2.HEADERS, http2.END_HEADERS, 3, raw.head(internal_key, ("x", "new"))))
    raw.say(frame(http2.DATA, 0, 3, b"lost"))
    assert await raw.until(http2.RST_STREAM) == (0, 3, struct.pack(">L", 7))
    raw.say(frame(http2.DATA, http2.END_STREAM, 1, gathered(b"first")))
    assert (await raw.until(http2.DATA))[2] == gathered(b"first")


async def test_answers_wait_for_the_clients_windows_and_settings(raw: Raw, internal_key: str) -> None:
    raw.say(PREFACE + settings_frame([(http2.SETTING_INITIAL_WINDOW_SIZE, 0)]))
    raw.say(frame(http2.HEADERS, http2.END_HEADERS, 1, raw.head(internal_key)))
    raw.say(frame(http2.DATA, http2.END_STREAM, 1, gathered(b"0123456789")))
    whole = gathered(b"0123456789")
    await raw.until(http2.HEADERS)
    raw.say(number_frame(http2.WINDOW_UPDATE, 1, 4))
    assert (await raw.until(http2.DATA))[2] == whole[:4]
    raw.say(settings_frame([(http2.SETTING_INITIAL_WINDOW_SIZE, 3)]))
    assert (await raw.until(http2.DATA))[2] == whole[4:7]
    raw.say(settings_frame([(http2.SETTING_INITIAL_WINDOW_SIZE, 0)]) + number_frame(http2.WINDOW_UPDATE, 1, 1000))
    assert (await raw.until(http2.DATA))[2] == whole[7:]
    assert (await raw.until(http2.HEADERS))[0] & http2.END_STREAM


async def test_client_that_resets_or_leaves_ends_its_call(host: Host, data_path: str, internal_key: str) -> None:
    server = await host(exchange=echoing())
    for farewell in (number_frame(http2.RST_STREAM, 1, 8), b""):
        raw = await Raw(data_path).open()
        raw.say(PREFACE + settings_frame(()) + frame(http2.HEADERS, http2.END_HEADERS, 1, raw.head(internal_key)))
        await raw.until(http2.HEADERS)
        raw.say(farewell)
        if not farewell:
            raw.close()
        await until(lambda: server._state.calls == 0)
        raw.close()


BLOCK = hpack.Encoder().encode([(":path", PATH)])


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        PREFACE[:-1] + b"x",
        PREFACE + b"\xff" * 9,
        PREFACE + frame(http2.SETTINGS, 0, 0, b"12345"),
        PREFACE + settings_frame([(http2.SETTING_MAX_FRAME_SIZE, 1)]),
        PREFACE + frame(http2.HEADERS, http2.END_HEADERS, 0, BLOCK),
        PREFACE + frame(http2.HEADERS, http2.END_HEADERS, 2, BLOCK),
        PREFACE + frame(http2.HEADERS, http2.END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"),
        PREFACE + frame(http2.HEADERS, http2.PADDED, 1, b"\x09abc"),
        PREFACE + frame(http2.HEADERS, 0, 1, BLOCK) + frame(http2.PING, 0, 0, bytes(8)),
        PREFACE + frame(http2.CONTINUATION, http2.END_HEADERS, 1, BLOCK),
        PREFACE + frame(http2.HEADERS, 0, 1, BLOCK) + frame(http2.CONTINUATION, 0, 1, bytes(16_000)) * 5,
        PREFACE + frame(http2.DATA, 0, 1, b"early"),
        PREFACE + frame(http2.DATA, 0, 2, b"never"),
        PREFACE + frame(http2.PUSH_PROMISE, 0, 1, b""),
    ],
)
async def test_what_is_not_http2_is_cut_off(raw: Raw, said: bytes) -> None:
    raw.say(said)
    await raw.closed()


@pytest.mark.parametrize("data", [b"\x01\0\0\0\x01x", b"\0\xff\xff\xff\xffx"])
async def test_compressed_or_huge_message_is_cut_off(raw: Raw, internal_key: str, data: bytes) -> None:
    raw.say(PREFACE + settings_frame(()) + frame(http2.HEADERS, http2.END_HEADERS, 1, raw.head(internal_key)))
    raw.say(frame(http2.DATA, 0, 1, data))
    await raw.closed()


@pytest.mark.parametrize("said", [b"", PREFACE[:10], PREFACE, PREFACE + frame(http2.HEADERS, 0, 1, BLOCK)])
async def test_client_whose_call_does_not_come_is_cut_off(
    host: Host, data_path: str, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(module, "CONNECT_S", 0.05)
    await host(exchange=echoing())
    raw = await Raw(data_path).open()
    raw.say(said)
    await raw.closed()
    raw.close()


async def test_client_that_asks_and_does_not_read_is_cut_off(raw: Raw) -> None:
    raw.say(PREFACE)
    raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
    with suppress(ConnectionError):
        async with asyncio.timeout(20):
            while not raw.writer.is_closing():
                raw.say(frame(http2.PING, 0, 0, bytes(8)) * 1000)
                await raw.writer.drain()
                await asyncio.sleep(0)


async def test_silent_peer_is_pinged_then_taken_for_gone(host: Host, data_path: str, internal_key: str) -> None:
    server = await host(exchange=echoing())
    raw = await Raw(data_path).open()
    raw.say(PREFACE + settings_frame(()) + frame(http2.HEADERS, http2.END_HEADERS, 1, raw.head(internal_key)))
    await raw.until(http2.HEADERS)
    assert server.exchange is not None
    [stream] = server.exchange._streams
    now = asyncio.get_running_loop().time()
    stream.watch(now + http2.PING_AFTER_S + 0.1)
    stream.watch(now + http2.PING_AFTER_S + 0.2)
    assert await raw.until(http2.PING) == (0, 0, bytes(8))
    raw.say(frame(http2.PING, http2.ACK, 0, bytes(8)) + frame(http2.PING, 0, 0, b"87654321"))
    assert await raw.until(http2.PING) == (http2.ACK, 0, b"87654321")
    stream.watch(asyncio.get_running_loop().time() + http2.GONE_AFTER_S + 0.1)
    await raw.closed()
    assert stream.ended.result().status is grpc.StatusCode.UNAVAILABLE
    raw.close()


async def test_end_reaches_a_client_that_goes_on_sending(host: Host, data_path: str, internal_key: str) -> None:
    server = await host(exchange=echoing())
    raw = await Raw(data_path).open()
    raw.say(PREFACE + settings_frame(()) + frame(http2.HEADERS, http2.END_HEADERS, 1, raw.head(internal_key)))
    await raw.until(http2.HEADERS)
    drain = asyncio.create_task(server.drain())
    for _ in range(200):
        raw.say(frame(http2.DATA, 0, 1, gathered(b"x" * 10_000)))
        await asyncio.sleep(0)
    _, _, trailers = await raw.until(http2.HEADERS)
    assert b"'grpc-status', '0'" in trailers
    raw.close()
    async with asyncio.timeout(5):
        await drain


# What servers do to our client.


@pytest.fixture
async def bare_server(tmp_path: Path) -> AsyncIterator[tuple[str, "asyncio.Queue[Any]"]]:
    connections: asyncio.Queue[Any] = asyncio.Queue()
    server = await asyncio.start_unix_server(lambda r, w: connections.put_nowait((r, w)), tmp_path / "bare")
    yield f"unix:{tmp_path}/bare", connections
    server.close()


OPEN = settings_frame(()) + frame(http2.HEADERS, http2.END_HEADERS, 1, hpack.Encoder().encode([(":status", "200")]))
UNAVAILABLE, INTERNAL = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", INTERNAL),
        (number_frame(http2.GOAWAY, 0, 0, 0), UNAVAILABLE),
        (OPEN + number_frame(http2.RST_STREAM, 1, 7), UNAVAILABLE),
        (OPEN + frame(http2.DATA, http2.END_STREAM, 1, b""), INTERNAL),
        (OPEN + frame(http2.DATA, 0, 3, b""), INTERNAL),
        (OPEN + frame(http2.DATA, http2.PADDED, 1, b"\x05x"), INTERNAL),
        (OPEN + frame(http2.PUSH_PROMISE, 0, 1, b""), INTERNAL),
        (frame(http2.HEADERS, http2.END_HEADERS, 1, hpack.Encoder().encode([(":status", "503")])), UNAVAILABLE),
        (
            frame(http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, 1, hpack.Encoder().encode([(":status", "200")])),
            grpc.StatusCode.UNKNOWN,
        ),
    ],
)
async def test_our_client_says_how_a_server_failed_it(
    bare_server: tuple[str, Any], said: bytes, status: grpc.StatusCode
) -> None:
    target, connections = bare_server
    client = await Client().open(target)
    _, writer = await connections.get()
    writer.write(said)
    assert (await client.end()).status is status
    writer.close()


async def test_stream_that_a_server_took_before_it_goes_away_lives_on(bare_server: tuple[str, Any]) -> None:
    target, connections = bare_server
    client = await Client().open(target)
    _, writer = await connections.get()
    writer.write(OPEN + number_frame(http2.GOAWAY, 0, 1, 0) + frame(http2.DATA, 0, 1, gathered(b"still")))
    assert await client.next() == message(b"still")
    client.stream.close()
    writer.close()


async def test_lost_connection_is_unavailable_and_nobody_there_an_oserror(bare_server: tuple[str, Any]) -> None:
    target, connections = bare_server
    client = await Client().open(target)
    _, writer = await connections.get()
    writer.close()
    assert (await client.end()).status is UNAVAILABLE
    with pytest.raises(OSError, match="No such file"):
        await Client().open(f"{target}.nobody")


@pytest.mark.parametrize("seed", range(150))
async def test_garbage_neither_raises_nor_hangs(seed: int) -> None:
    """Frames well and badly formed, mutated and cut anywhere, at both sides, without a socket between."""
    chance = random.Random(seed)
    failures: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))

    class Transport(asyncio.Transport):
        aborted = False

        def write(self, data: Any) -> None:
            pass

        def abort(self) -> None:
            self.aborted = True

    def some_frame() -> bytes:
        kind = chance.choice((0, 0, 0, 1, 1, 3, 4, 5, 6, 7, 8, 8, 9, 200))
        payload = chance.choice(
            (
                gathered(chance.randbytes(chance.randrange(40))),
                chance.randbytes(chance.randrange(60)),
                BLOCK,
                struct.pack(">L", chance.choice((0, 1, 70_000, 2**31 - 1))),
                struct.pack(">HL", chance.randrange(7), chance.choice((0, 1, 16_384, 70_000, 2**32 - 1))),
            )
        )
        made = frame(kind, chance.choice((0, 1, 4, 5, 8, 12, 0x24, 0xFF)), chance.choice((0, 1, 1, 1, 2, 3)), payload)
        if not chance.randrange(6):
            at = chance.randrange(len(made))
            made = made[:at] + chance.randbytes(1) + made[at + 1 :]
        return made

    def let_in(stream: ServedStream) -> None:
        stream.let_in(lambda _: None, lambda: None)

    side: Any
    for side in (
        ServedStream(let_in, lambda _: None),
        Stream("x", PATH, (), on_open=lambda _: None, on_message=lambda _: None, on_room=lambda: None),
    ):
        transport = Transport()
        side.connection_made(transport)
        served = isinstance(side, ServedStream)
        said = (PREFACE if served else b"") + (
            frame(1, 4, 1, hpack.Encoder().encode([(":path", PATH), ("k", "v")])) if served else OPEN
        )
        said += b"".join(some_frame() for _ in range(chance.randrange(30)))
        at = 0
        while at < len(said):
            size = chance.choice((1, 7, 100, 10_000))
            side.data_received(said[at : at + size])
            side.send(b"answer" * chance.randrange(1000))
            at += size
        side.connection_lost(None)
        assert side.ended.done()
    assert failures == []


async def test_data_channel_on_tcp_is_the_next_port(host: Host, internal_key: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = await host(exchange=echoing(), listen=f"127.0.0.1:{port}")
    assert data_target(server.target) == f"127.0.0.1:{port + 1}"
    client = await Client().open(data_target(server.target), (("tovuk-internal-key", internal_key),))
    async with asyncio.timeout(5):
        await client.opened.wait()
    client.stream.send(message(b"over tcp"))
    assert await client.next() == message(b"over tcp")
    client.stream.close()
