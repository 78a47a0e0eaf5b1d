import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tovuk_kit import notices as module
from tovuk_kit.notices import OUTGOING_NOTICES_MAX, Notices


class NatsServer:
    """A NATS on a port of its own, that can be stopped and started again."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.url = f"nats://127.0.0.1:{self._port}"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        binary = Path(sys.executable).parent / "nats-server"
        self._process = await asyncio.create_subprocess_exec(
            binary, "-a", "127.0.0.1", "-p", str(self._port), stderr=asyncio.subprocess.DEVNULL
        )

    async def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NatsServer]:
    monkeypatch.setattr(module, "RECONNECT_S", 0.05)
    server = NatsServer()
    yield server
    await server.stop()


@pytest.fixture
async def notices() -> AsyncIterator[Notices]:
    notices = Notices()
    yield notices
    await notices.close()


async def until(predicate: Callable[[], bool], again: Callable[[], None] = lambda: None) -> None:
    async with asyncio.timeout(20):
        while not predicate():
            again()
            await asyncio.sleep(0.02)


async def test_notice_reaches_the_subscribers_of_its_subject(nats_url: str, notices: Notices) -> None:
    caps: list[tuple[str, bytes]] = []
    tokens: list[tuple[str, bytes]] = []
    notices.subscribe("tovuk.changed.caps.*", lambda subject, payload: caps.append((subject, payload)))
    await notices.connect(nats_url)
    notices.subscribe("tovuk.changed.tokens", lambda subject, payload: tokens.append((subject, payload)))
    await until(lambda: bool(tokens), lambda: notices.publish("tovuk.changed.tokens", b"t"))
    notices.publish("tovuk.changed.caps.account_1", b"c")
    await until(lambda: bool(caps))
    assert caps == [("tovuk.changed.caps.account_1", b"c")]
    assert set(tokens) == {("tovuk.changed.tokens", b"t")}


async def test_everything_works_without_nats(notices: Notices) -> None:
    await notices.connect("")
    notices.subscribe("tovuk.changed.tokens", lambda subject, payload: None)
    notices.publish("tovuk.changed.tokens", b"t")
    assert not notices.connected


async def test_nats_that_comes_late_goes_and_comes_back_is_found(server: NatsServer, notices: Notices) -> None:
    got: list[bytes] = []
    await notices.connect(server.url)
    notices.subscribe("tovuk.changed.tokens", lambda subject, payload: got.append(payload))
    notices.publish("tovuk.changed.tokens", b"before")
    await server.start()
    await until(lambda: bool(got), lambda: notices.publish("tovuk.changed.tokens", b"first"))
    await server.stop()
    await until(lambda: not notices.connected)
    notices.publish("tovuk.changed.tokens", b"between")
    await server.start()
    await until(lambda: b"again" in got, lambda: notices.publish("tovuk.changed.tokens", b"again"))
    assert set(got) == {b"first", b"again"}


async def test_exception_of_a_callback_is_logged_and_the_next_notice_comes(
    nats_url: str, notices: Notices, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[bytes] = []

    def receive(subject: str, payload: bytes) -> None:
        got.append(payload)
        raise ValueError("a fault of the subscriber")

    await notices.connect(nats_url)
    notices.subscribe("tovuk.changed.tokens", receive)
    await until(lambda: len(got) > 1, lambda: notices.publish("tovuk.changed.tokens"))
    assert "a fault of the subscriber" in caplog.text


async def test_flood_of_notices_is_bounded(nats_url: str, notices: Notices) -> None:
    got: list[bytes] = []
    await notices.connect(nats_url)
    notices.subscribe("tovuk.changed.tokens", lambda subject, payload: got.append(payload))
    await until(lambda: bool(got), lambda: notices.publish("tovuk.changed.tokens", b"first"))
    await asyncio.sleep(0)
    got.clear()
    for number in range(OUTGOING_NOTICES_MAX + 500):
        notices.publish("tovuk.changed.tokens", b"%d" % number)
    await until(lambda: b"%d" % (OUTGOING_NOTICES_MAX + 499) in got)
    assert len([payload for payload in got if payload != b"first"]) == OUTGOING_NOTICES_MAX


async def test_close_sends_what_was_published_just_before(nats_url: str, notices: Notices) -> None:
    got: list[bytes] = []
    await notices.connect(nats_url)
    notices.subscribe("tovuk.changed.tokens", lambda subject, payload: got.append(payload))
    await until(lambda: bool(got), lambda: notices.publish("tovuk.changed.tokens", b"first"))
    leaving = Notices()
    await leaving.connect(nats_url)
    await until(lambda: leaving.connected)
    leaving.publish("tovuk.changed.tokens", b"last")
    await leaving.close()
    await until(lambda: b"last" in got)
