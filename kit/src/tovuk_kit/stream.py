"""One bidirectional gRPC stream on a connection of its own, spoken directly, on either side.

Hot path: some 5 µs of CPU a message and side. grpc.aio takes 150 µs, nearly all in waking tasks and crossing threads.
Here a message is parsed in the transport's own callback and leaves with one write. The other side may be any gRPC
client or server.
"""

import asyncio
import base64
import binascii
import logging
from collections.abc import Callable, Iterable
from typing import Final, NoReturn
from urllib.parse import quote, unquote

import grpc

from tovuk_kit import http2
from tovuk_kit.http2 import WINDOW_BYTES, WINDOW_BYTES_FIRST, Connection, End, ProtocolViolation

#: Seconds a connection may take to stand, and the head of its call to arrive.
CONNECT_S: Final = 2.0
#: Seconds a client may take to close after its stream has ended; closing first could eat the end it has not read.
LINGER_S: Final = 5.0

_STATUSES: Final = {status.value[0]: status for status in grpc.StatusCode}
# RFC 9113, section 7.
_NO_ERROR, _REFUSED_STREAM = 0, 7

_logger = logging.getLogger(__name__)

Metadata = Iterable[tuple[str, str | bytes]]


async def open_stream(
    target: str,
    path: str,
    metadata: Iterable[tuple[str, str]],
    *,
    on_open: "Callable[[Stream], None]",
    on_message: Callable[[bytes], None],
    on_room: Callable[[], None],
) -> "Stream":
    """A stream of the method `path` (`/package.Service/Method`) at `target` (`unix:/path` or `host:port`).

    `on_open` is called when the server has let the call in, `on_message` with each message, `on_room` when `congested`
    may no longer be true. None of them is called after the end, and none may raise. Raises OSError or TimeoutError when
    there is no connection within 2 s.
    """
    loop = asyncio.get_running_loop()
    unix = target.startswith("unix:")
    authority = "localhost" if unix else target

    def make() -> Stream:
        return Stream(authority, path, metadata, on_open=on_open, on_message=on_message, on_room=on_room)

    async with asyncio.timeout(CONNECT_S):
        if unix:
            _, stream = await loop.create_unix_connection(make, target.removeprefix("unix:"))
        else:
            host, _, port = target.rpartition(":")
            _, stream = await loop.create_connection(make, host.strip("[]"), int(port))
    return stream


class Stream(Connection):
    """The client's side; made by `open_stream`. `ended` is settled with what the server said."""

    def __init__(
        self,
        authority: str,
        path: str,
        metadata: Iterable[tuple[str, str]],
        *,
        on_open: "Callable[[Stream], None]",
        on_message: Callable[[bytes], None],
        on_room: Callable[[], None],
    ) -> None:
        super().__init__()
        self._head = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            *metadata,
        ]
        self._on_open = on_open
        self._on_message = on_message
        self._on_room = on_room

    def close(self) -> None:
        """End the stream; the server sees a cancelled call."""
        self._end(grpc.StatusCode.CANCELLED, "closed here")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        settings = (
            (http2.SETTING_ENABLE_PUSH, 0),
            (http2.SETTING_INITIAL_WINDOW_SIZE, WINDOW_BYTES),
        )
        self._transport.write(
            http2.PREFACE
            + http2.settings_frame(settings)
            + http2.number_frame(http2.WINDOW_UPDATE, 0, WINDOW_BYTES - WINDOW_BYTES_FIRST)
            + self._headers(self._head, ends=False)
        )

    def _take_head(self, stream: int, headers: dict[str, str], *, ends: bool) -> None:
        if stream != http2.STREAM:
            raise ProtocolViolation("headers of no stream")
        if ends:
            code = headers.get("grpc-status", "")
            status = _STATUSES.get(int(code) if code.isdecimal() else -1, grpc.StatusCode.UNKNOWN)
            self._end(status, unquote(headers.get("grpc-message", "")))
        elif headers.get(":status") != "200":
            self._end(grpc.StatusCode.UNAVAILABLE, f"the server answered {headers.get(':status')}")
        elif not self._opened:
            self._opened = True
            self._on_open(self)

    def _take_end(self) -> None:
        self._end(grpc.StatusCode.INTERNAL, "the stream ended without a status")

    def _take_goaway(self, last_stream: int) -> None:
        if last_stream < http2.STREAM:
            self._end(grpc.StatusCode.UNAVAILABLE, "the server goes away")


class ServedStream(Connection):
    """The server's side: a connection that waits for its one call. `ended` is settled by `finish`, or by the client.

    It shows of a call what grpc.aio's ServicerContext shows: `invocation_metadata` and `abort`.
    """

    def __init__(self, on_call: "Callable[[ServedStream], None]", on_gone: "Callable[[ServedStream], None]") -> None:
        """`on_call` is called when the call's head is here, if ever; `on_gone` when the connection is closed."""
        super().__init__()
        self._on_call = on_call
        self._on_gone = on_gone
        #: The call's `/package.Service/Method`.
        self.path = ""
        #: Whether the stream ended otherwise than by `finish`.
        self.lost = False
        self._metadata: tuple[tuple[str, str | bytes], ...] = ()
        self._preface_came = False
        self._let_in = False
        #: Messages of a client that did not wait to be let in; its first window bounds them.
        self._early: list[bytes] = []
        self._client_is_done = False
        self._on_client_done: Callable[[], None] | None = None
        self._on_message = self._early.append
        self._on_room = self._send_last_when_due
        #: What is sent last, once `finish` was called.
        self._last: tuple[End, Metadata] | None = None
        #: Bounds the wait for the head of the call, later for the client's farewell.
        self._timer = self._loop.call_later(CONNECT_S, self._lose_patience)

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """The metadata of the call; binary values as bytes."""
        return self._metadata

    def let_in(self, on_message: Callable[[bytes], None], on_client_done: Callable[[], None]) -> None:
        """Answer the call: the client may send. `on_message` is called with each message, `on_client_done` when there
        will be no more; neither after the end, and neither may raise.
        """
        if self.ended.done():
            return
        self._let_in = True
        self._transport.write(self._headers(((":status", "200"), ("content-type", "application/grpc")), ends=False))
        self._grant(WINDOW_BYTES - WINDOW_BYTES_FIRST)
        self._on_message = on_message
        for message in self._early:
            on_message(message)
        self._early.clear()
        self._on_client_done = on_client_done
        if self._client_is_done:
            on_client_done()

    async def finish(self, status: grpc.StatusCode, details: str = "", trailers: Metadata = ()) -> None:
        """End the stream, after everything that was sent. Returns when that has left, or the client is gone."""
        if self._last is None:
            self._last = (End(status, details), trailers)
            if not self.congested and not self.ended.done():
                self._send_last()
        await asyncio.wait([self.ended])

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> NoReturn:
        """`finish`, then raise AbortError."""
        await self.finish(code, details, trailing_metadata)
        raise grpc.aio.AbortError

    def close(self) -> None:
        """Be gone, whatever the client has not got yet."""
        self._end(grpc.StatusCode.CANCELLED, "closed here")
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # Larger windows are granted to those who are let in.
        self._transport.write(http2.settings_frame([(http2.SETTING_MAX_CONCURRENT_STREAMS, 1)]))

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        super().connection_lost(exc)
        self._on_gone(self)

    def data_received(self, data: bytes) -> None:
        if not self._preface_came:
            data = self._received + data
            if not (data.startswith(http2.PREFACE) or http2.PREFACE.startswith(data)):
                self._end(grpc.StatusCode.INTERNAL, "not HTTP/2")
                return
            if len(data) < len(http2.PREFACE):
                self._received = data
                return
            self._preface_came, self._received = True, b""
            data = data[len(http2.PREFACE) :]
        super().data_received(data)

    def _take_head(self, stream: int, headers: dict[str, str], *, ends: bool) -> None:
        if stream != http2.STREAM:
            self._answer(http2.number_frame(http2.RST_STREAM, stream, _REFUSED_STREAM))
            return
        if self._opened:
            if not ends:
                raise ProtocolViolation("a second head")
            self._take_end()
            return
        self._timer.cancel()
        self._opened = True
        self.path = headers.get(":path", "")
        self._metadata = tuple((name, _value(name, value)) for name, value in headers.items() if name[:1] != ":")
        self._client_is_done = ends
        self._on_call(self)

    def _take_foreign_data(self, stream: int, payload: bytes) -> None:
        if stream == http2.STREAM or not stream % 2:
            raise ProtocolViolation("data of no stream")
        # It was refused, which its client does not know yet; the connection's window is to be kept open.
        if payload:
            self._answer(http2.number_frame(http2.WINDOW_UPDATE, 0, len(payload)))

    def _take_end(self) -> None:
        if self._client_is_done:
            raise ProtocolViolation("a second end")
        self._client_is_done = True
        if self._on_client_done is not None:
            self._on_client_done()

    def _send_last_when_due(self) -> None:
        if self._last is not None:
            self._send_last()

    def _send_last(self) -> None:
        assert self._last is not None
        end, trailers = self._last
        head = () if self._let_in else ((":status", "200"), ("content-type", "application/grpc"))
        said = (("grpc-status", str(end.status.value[0])), ("grpc-message", quote(end.details, safe=" ")))
        self._transport.write(
            self._headers((*head, *said, *((name, _text(value)) for name, value in trailers)), ends=True)
            # The next call goes to a connection of its own.
            + http2.number_frame(http2.GOAWAY, 0, http2.STREAM, _NO_ERROR)
        )
        self.ended.set_result(end)
        self._timer = self._loop.call_later(LINGER_S, self._stop_lingering)

    def _end(self, status: grpc.StatusCode, details: str) -> None:
        if not self.ended.done():
            self.lost = True
            if status is grpc.StatusCode.INTERNAL:
                _logger.warning("a client of the data channel was cut off: %s", details)
            super()._end(status, details)

    def _stop_lingering(self) -> None:
        _logger.info("a client of the data channel did not close after its end")
        self._transport.abort()

    def _lose_patience(self) -> None:
        self._end(grpc.StatusCode.UNAVAILABLE, "no call came")


def _value(name: str, value: str) -> str | bytes:
    """Metadata as gRPC writes it to headers: binary values in base64, without padding or with."""
    if not name.endswith("-bin"):
        return value
    try:
        return base64.b64decode(value + "=" * (-len(value) % 4))
    except (binascii.Error, ValueError) as error:
        raise ProtocolViolation("binary metadata that is not base64") from error


def _text(value: str | bytes) -> str:
    return base64.b64encode(value).rstrip(b"=").decode() if isinstance(value, bytes) else value
