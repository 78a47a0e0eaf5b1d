"""HTTP/2 as far as one gRPC stream a connection needs it (RFC 9113), with messages and windows; either side's part.

Hot path: a whole message in one frame is parsed and handed on within the transport's own callback.
"""

import asyncio
import struct
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, cast

import grpc
import hpack

from tovuk_kit.client import MESSAGE_BYTES_MAX, METADATA_BYTES_MAX

#: Seconds of silence after which the peer is pinged, and after which it is taken for gone.
PING_AFTER_S, GONE_AFTER_S = 10.0, 15.0
#: Bytes the peer may send before we grant more; messages are taken as they come, so this bounds nothing of ours.
WINDOW_BYTES: Final = 16 * 1024 * 1024
#: Bytes of the windows of a new connection, and the most one frame may have, before settings say otherwise.
WINDOW_BYTES_FIRST: Final = 65_535
FRAME_BYTES: Final = 16_384
#: Bytes of pings and settings to answer that wait for a peer who does not read.
_CONTROL_BYTES_MAX: Final = 1024 * 1024
#: Bytes of the table a peer's header blocks may refer to.
_HEADER_TABLE_BYTES: Final = 4096

#: What a client says first.
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# RFC 9113, section 6: the types of frames, their flags, the settings that matter here.
DATA, HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 5, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
SETTING_HEADER_TABLE_SIZE, SETTING_ENABLE_PUSH, SETTING_MAX_CONCURRENT_STREAMS = 1, 2, 3
SETTING_INITIAL_WINDOW_SIZE, SETTING_MAX_FRAME_SIZE = 4, 5
#: The only stream of the connection; 0 is the connection itself.
STREAM: Final = 1

#: Length (in two parts), type, flags, stream.
_frame_head = struct.Struct(">HBBBL")
_setting = struct.Struct(">HL")
_number = struct.Struct(">L")
#: Whether compressed, length.
_message_head = struct.Struct(">BL")


class End(NamedTuple):
    """How a stream ended: what the server said, or UNAVAILABLE where the connection was lost first."""

    status: grpc.StatusCode
    details: str


class ProtocolViolation(Exception):
    """The peer does not speak HTTP/2 or gRPC as it should."""


class Connection(asyncio.Protocol):
    """A connection with its one stream. A side says what heads, ends and messages mean to it."""

    #: Called with each message.
    _on_message: Callable[[bytes], None]
    #: Called when what was sent has left, for now.
    _on_room: Callable[[], None]

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        #: Settled once.
        self.ended: asyncio.Future[End] = self._loop.create_future()
        #: When the peer was last heard, in loop time.
        self._heard_at = self._loop.time()
        self._pinged = False
        #: Whether both sides know of the stream.
        self._opened = False
        #: What came of a frame that is incomplete, of a message, of a block of headers.
        self._received = b""
        self._message = bytearray()
        self._block = b""
        #: The stream whose headers are incomplete, and whether it ends with them.
        self._block_stream = 0
        self._block_ends = False
        self._decoder = hpack.Decoder(max_header_list_size=METADATA_BYTES_MAX)
        self._encoder = hpack.Encoder()
        #: Bytes taken since the peer was last granted more.
        self._taken_bytes = 0
        #: Bytes the peer takes of the connection, of the stream, of a new stream by its settings, of one frame.
        self._connection_window = WINDOW_BYTES_FIRST
        self._stream_window = WINDOW_BYTES_FIRST
        self._first_window = WINDOW_BYTES_FIRST
        self._frame_bytes_max = FRAME_BYTES
        #: What waits for the peer's windows.
        self._unsent = bytearray()
        self._paused = False
        #: Bytes of control frames written since the transport paused us.
        self._control_bytes = 0

    @property
    def congested(self) -> bool:
        """Whether something sent earlier is still here."""
        return self._paused or bool(self._unsent)

    def send(self, message: bytes) -> None:
        """Send a message, at once or as soon as the peer takes it. Nothing is done after the end."""
        if self.ended.done():
            return
        size = _message_head.size + len(message)
        if (
            not self._unsent
            and not self._paused
            and size <= self._connection_window
            and size <= self._stream_window
            and size <= self._frame_bytes_max
        ):
            self._connection_window -= size
            self._stream_window -= size
            head = _frame_head.pack(size >> 8, size & 0xFF, DATA, 0, STREAM)
            self._transport.write(head + _message_head.pack(0, len(message)) + message)
        else:
            self._unsent += _message_head.pack(0, len(message))
            self._unsent += message
            self._send_unsent()

    def watch(self, now: float) -> None:
        """Call it now and then with the loop's time: a peer that vanished without a word is noticed."""
        silent_s = now - self._heard_at
        if silent_s > GONE_AFTER_S:
            self._end(grpc.StatusCode.UNAVAILABLE, "the peer has fallen silent")
        elif silent_s > PING_AFTER_S and not self._pinged and self._opened:
            self._pinged = True
            self._transport.write(frame(PING, 0, 0, bytes(8)))

    # What a side makes of what the peer says.

    def _take_head(self, stream: int, headers: dict[str, str], *, ends: bool) -> None:
        """A whole block of headers."""
        raise NotImplementedError

    def _take_foreign_data(self, stream: int, payload: bytes) -> None:
        """Data of another stream than the one."""
        raise ProtocolViolation(f"data of stream {stream}")

    def _take_end(self) -> None:
        """The peer's messages end, without headers."""
        raise NotImplementedError

    def _take_goaway(self, last_stream: int) -> None:
        """The peer takes no stream above `last_stream`; one that was taken goes on."""

    # The transport's callbacks.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(grpc.StatusCode.UNAVAILABLE, str(exc) if exc else "the connection was lost")

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._control_bytes = 0
        self._send_more()

    def data_received(self, data: bytes) -> None:
        if self.ended.done():
            return
        self._heard_at = self._loop.time()
        self._pinged = False
        received = self._received + data if self._received else data
        at = 0
        try:
            while len(received) - at >= _frame_head.size:
                high, low, kind, flags, stream = _frame_head.unpack_from(received, at)
                length = high << 8 | low
                if length > FRAME_BYTES:
                    raise ProtocolViolation(f"a frame of {length} bytes")
                begin = at + _frame_head.size
                if len(received) < begin + length:
                    break
                at = begin + length
                self._take(kind, flags, stream & 0x7FFFFFFF, received[begin:at])
                if self.ended.done():
                    return
        except (ProtocolViolation, hpack.HPACKError, struct.error, IndexError) as violation:
            self._end(grpc.StatusCode.INTERNAL, f"not as HTTP/2 has it: {violation}")
            return
        self._received = received[at:]

    # What the peer says.

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if self._block_stream and kind != CONTINUATION:
            raise ProtocolViolation("headers were interrupted")
        match kind:
            case 0:  # DATA
                if stream == STREAM and self._opened:
                    self._take_data(flags, payload)
                else:
                    self._take_foreign_data(stream, payload)
            case 1 | 9:  # HEADERS, CONTINUATION
                self._take_headers(kind, flags, stream, payload)
            case 3 if stream == STREAM:  # RST_STREAM
                self._end(grpc.StatusCode.UNAVAILABLE, f"the peer reset the stream: {_number.unpack(payload)[0]}")
            case 4 if not flags & ACK:  # SETTINGS
                self._take_settings(payload)
            case 5:  # PUSH_PROMISE: clients forbid it, servers never get one.
                raise ProtocolViolation("a push")
            case 6 if not flags & ACK:  # PING
                self._answer(frame(PING, ACK, 0, payload))
            case 7:  # GOAWAY
                self._take_goaway(_number.unpack_from(payload)[0] & 0x7FFFFFFF)
            case 8:  # WINDOW_UPDATE
                grant = _number.unpack(payload)[0] & 0x7FFFFFFF
                if stream == 0:
                    self._connection_window += grant
                elif stream == STREAM:
                    self._stream_window += grant
                self._send_more()

    def _take_data(self, flags: int, payload: bytes) -> None:
        self._taken_bytes += len(payload)
        if self._taken_bytes >= WINDOW_BYTES // 2:
            self._grant(self._taken_bytes)
            self._taken_bytes = 0
        if flags & PADDED:
            payload = _unpadded(payload)
        message = self._message
        if not message and len(payload) >= _message_head.size:
            end = _message_head.size + self._message_bytes(payload)
            if len(payload) == end:
                self._on_message(payload[_message_head.size :])
                payload = b""
        if payload:
            message += payload
            while len(message) >= _message_head.size and not self.ended.done():
                end = _message_head.size + self._message_bytes(message)
                if len(message) < end:
                    break
                whole = bytes(message[_message_head.size : end])
                del message[:end]
                self._on_message(whole)
        if flags & END_STREAM and not self.ended.done():
            self._take_end()

    def _message_bytes(self, received: bytes | bytearray) -> int:
        compressed, length = _message_head.unpack_from(received)
        if compressed or length > MESSAGE_BYTES_MAX:
            raise ProtocolViolation(f"a message of {length} bytes, compressed {compressed}")
        return cast(int, length)

    def _take_headers(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == CONTINUATION:
            if not stream or stream != self._block_stream:
                raise ProtocolViolation("a continuation of no headers")
        else:
            if not stream % 2:
                raise ProtocolViolation("headers of no stream")
            self._block_stream = stream
            self._block_ends = bool(flags & END_STREAM)
            if flags & PADDED:
                payload = _unpadded(payload)
            if flags & PRIORITY:
                payload = payload[5:]
        self._block += payload
        if len(self._block) > METADATA_BYTES_MAX:
            raise ProtocolViolation("headers without end")
        if not flags & END_HEADERS:
            return
        # Also those nobody wants: the decoder's table must follow the peer's.
        headers = {str(name): str(value) for name, value in self._decoder.decode(self._block)}
        self._block, self._block_stream = b"", 0
        self._take_head(stream, headers, ends=self._block_ends)

    def _take_settings(self, payload: bytes) -> None:
        for name, value in _setting.iter_unpack(payload):
            if name == SETTING_HEADER_TABLE_SIZE:
                self._encoder.header_table_size = min(value, _HEADER_TABLE_BYTES)
            elif name == SETTING_INITIAL_WINDOW_SIZE:
                self._stream_window += value - self._first_window
                self._first_window = value
            elif name == SETTING_MAX_FRAME_SIZE:
                if not FRAME_BYTES <= value < 1 << 24:
                    raise ProtocolViolation(f"frames of {value} bytes")
                self._frame_bytes_max = value
        self._answer(frame(SETTINGS, ACK, 0, b""))
        self._send_more()

    # What we say.

    def _answer(self, control: bytes) -> None:
        if self._paused:
            self._control_bytes += len(control)
            if self._control_bytes > _CONTROL_BYTES_MAX:
                raise ProtocolViolation("the peer asks and does not read")
        self._transport.write(control)

    def _grant(self, window_bytes: int) -> None:
        grant = _number.pack(window_bytes)
        self._transport.write(frame(WINDOW_UPDATE, 0, 0, grant) + frame(WINDOW_UPDATE, 0, STREAM, grant))

    def _headers(self, headers: Iterable[tuple[str, str]], *, ends: bool) -> bytes:
        """The frames of a block of headers."""
        block = self._encoder.encode(headers)
        size = self._frame_bytes_max
        parts = [block[at : at + size] for at in range(0, len(block), size)]
        frames = []
        for number, part in enumerate(parts):
            flags = END_HEADERS if number == len(parts) - 1 else 0
            if number:
                frames.append(frame(CONTINUATION, flags, STREAM, part))
            else:
                frames.append(frame(HEADERS, flags | (END_STREAM if ends else 0), STREAM, part))
        return b"".join(frames)

    def _send_more(self) -> None:
        """There may be room now."""
        if self.ended.done():
            return
        if self.congested:
            self._send_unsent()
        if self._opened and not self.congested:
            self._on_room()

    def _send_unsent(self) -> None:
        """Send what waits, as far as the windows reach."""
        unsent = self._unsent
        while unsent and not self._paused:
            size = min(len(unsent), self._connection_window, self._stream_window, self._frame_bytes_max)
            if size <= 0:
                return
            self._connection_window -= size
            self._stream_window -= size
            self._transport.write(frame(DATA, 0, STREAM, bytes(unsent[:size])))
            del unsent[:size]

    def _end(self, status: grpc.StatusCode, details: str) -> None:
        if self.ended.done():
            return
        self.ended.set_result(End(status, details))
        self._transport.abort()


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame of HTTP/2."""
    size = len(payload)
    return _frame_head.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def settings_frame(settings: Iterable[tuple[int, int]]) -> bytes:
    """Our settings, by number."""
    return frame(SETTINGS, 0, 0, b"".join(_setting.pack(*setting) for setting in settings))


def number_frame(kind: int, stream: int, *numbers: int) -> bytes:
    """A frame of numbers: RST_STREAM, GOAWAY, WINDOW_UPDATE."""
    return frame(kind, 0, stream, b"".join(_number.pack(number) for number in numbers))


def _unpadded(payload: bytes) -> bytes:
    if payload[0] >= len(payload):
        raise ProtocolViolation("more padding than frame")
    return payload[1 : len(payload) - payload[0]]
