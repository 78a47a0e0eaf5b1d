"""The coalescing data channel: many small operations as few frames on one long-lived stream.

Hot path: below 8 µs of CPU an operation on the client's side, in batches of 32. A unary gRPC call costs some 250 µs on
either side, nearly all of it in waking event loops; a frame pays that once for everything one tick gathered.

    caller ─ submit ─→ Coalescer ─ frame ─→ Conversation ─ handle ─→ service
    caller ←─ callback ─────────── frame ←──────────────── reply ──┘

A stream that ends with OK has answered every operation it took, so that what is unanswered then was never begun and may
be sent again whatever it is. After any other end only reads are sent again.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar

import grpc
import msgspec
from google.protobuf.message import DecodeError

from tovuk.common.v1.common_pb2 import Frame
from tovuk.common.v1.frames import Failed
from tovuk_kit.client import Channel, data_target
from tovuk_kit.errors import InternalError, Outcome, RemoteError, TovukError
from tovuk_kit.http2 import End
from tovuk_kit.stream import Stream, open_stream
from tovuk_kit.telemetry import counter

#: Operations of one frame.
FRAME_OPERATIONS_MAX = 128
#: Bytes of one frame's payload; a single larger operation travels alone.
FRAME_BYTES_MAX = 1024 * 1024
#: Frames of reads that are outstanding at most: the service reads one while we read the answers of the other.
READ_FRAMES_MAX = 2
#: Seconds after which a frame no longer holds up the next ones, whatever it still waits for.
FRAME_PATIENCE_S = 0.020
#: Operations a channel holds, queued and sent; beyond, a service is overrun and more waiting helps nobody.
PENDING_OPERATIONS_MAX = 10_000
#: Seconds between two looks for operations past their deadline.
SWEEP_S = 0.250
#: Seconds before a stream is opened again; doubled from the first to the last while that fails.
RECONNECT_FIRST_S, RECONNECT_LAST_S = 0.020, 0.200

_logger = logging.getLogger(__name__)


class Numbered(Protocol):
    """An operation or an answer: what carries an id. Ids are assigned by the Coalescer."""

    id: int


Op = TypeVar("Op", bound=Numbered)
Ans = TypeVar("Ans", bound=Numbered)
Item = TypeVar("Item")


class _Frame:
    """A frame on its way: when it left, in loop time, and how many of its operations are unanswered."""

    __slots__ = ("remaining", "sent_at")

    def __init__(self, remaining: int) -> None:
        self.sent_at = 0.0
        self.remaining = remaining


class _Lane(Generic[Op, Ans]):
    """Operations waiting to leave, and the frames of them that are outstanding.

    At most `frames_max` at a time: what comes meanwhile makes the next one larger, and with it the service's groups.
    Reads and mutations have a lane each, so that no read waits for a sync.
    """

    __slots__ = ("encoded", "frames", "frames_max", "queue", "timed")

    def __init__(self, frames_max: int) -> None:
        self.queue: deque[_Pending[Op, Ans]] = deque()
        #: Frames that were too large for one, in order, before the queue.
        self.encoded: deque[tuple[bytes, list[_Pending[Op, Ans]]]] = deque()
        self.frames_max = frames_max
        #: The outstanding ones, the oldest first, and some that were answered since the last look.
        self.frames: list[_Frame] = []
        #: Whether a timer will end the patience with one.
        self.timed = False

    def wait_s(self, now: float) -> float:
        """Seconds until the next frame may leave."""
        frames = self.frames = [frame for frame in self.frames if frame.remaining]
        if len(frames) < self.frames_max:
            return 0
        left_s = frames[0].sent_at + FRAME_PATIENCE_S - now
        if left_s > 0:
            return max(left_s, 0.0005)
        del frames[0]
        return 0


class _Pending(Generic[Op, Ans]):
    """An operation without an answer. `frame` is the one it left in, None while it is queued."""

    __slots__ = ("callback", "deadline", "frame", "lane", "op", "resent")

    def __init__(
        self, op: Op, lane: _Lane[Op, Ans], callback: Callable[[Ans | TovukError], None], deadline: float
    ) -> None:
        self.op = op
        self.lane = lane
        self.callback = callback
        self.deadline = deadline
        self.frame: _Frame | None = None
        self.resent = False


class Coalescer(Generic[Op, Ans]):
    """Sends the operations of one event-loop tick as one frame and gives each answer to its callback.

    Two frames of reads and one of mutations are outstanding at most. A frame is outstanding until all its answers came,
    but for 20 ms at most, so that slow operations hold up their callers alone. An operation fails with
      - ServiceUnavailable, nothing done: the service could not be reached, 10,000 operations are pending already, the
        channel is closed; for reads also when the stream was lost twice or the deadline passed;
      - OutcomeUnknown: a mutation's frame had left when the stream was lost or the deadline passed.
    Must be created within a running event loop, and opens its stream at once.
    """

    def __init__(
        self,
        channel: Channel,
        exchange: str,
        *,
        encode: Callable[[list[Op]], bytes],
        decode: Callable[[bytes], list[Ans | Failed]],
        is_read: Callable[[Op], bool],
        timeout_s: float = 5.0,
    ) -> None:
        """`exchange` is the path of a method that takes and gives a stream of `Frame`s, `/tovuk.kv.v1.KvData/Exchange`;
        `is_read` says what may be sent twice.
        """
        self._channel = channel
        self._exchange = exchange
        self._encode = encode
        self._decode = decode
        self._is_read = is_read
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._last_id = 0
        #: By id. Insertion order is deadline order: every operation has the same time.
        self._pending: dict[int, _Pending[Op, Ans]] = {}
        self._reads: _Lane[Op, Ans] = _Lane(READ_FRAMES_MAX)
        self._mutations: _Lane[Op, Ans] = _Lane(1)
        self._lanes = [self._reads, self._mutations]
        self._flush_is_due = False
        self._closed = False
        #: While the service has let us in.
        self._stream: Stream | None = None
        self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)
        self._operations = counter("tovuk_channel_operations_total", channel.service_name)
        self._frames = counter("tovuk_channel_frames_total", channel.service_name)
        self._streams = counter("tovuk_channel_streams_total", channel.service_name)
        self._runner = self._loop.create_task(self._run())

    def submit(self, op: Op, callback: Callable[[Ans | TovukError], None]) -> None:
        """Send `op`; `callback` gets its answer or its error later, never from within this call.

        The id of `op` is set here. An answer that stands for a failure is an answer: the caller knows its wire.
        """
        pending = self._pending
        if self._closed or len(pending) >= PENDING_OPERATIONS_MAX:
            self._loop.call_soon(_give, callback, self._channel.unavailable())
            return
        self._last_id = op.id = self._last_id + 1
        lane = self._reads if self._is_read(op) else self._mutations
        entry: _Pending[Op, Ans] = _Pending(op, lane, callback, self._loop.time() + self._timeout_s)
        pending[op.id] = entry
        lane.queue.append(entry)
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)

    async def call(self, op: Op) -> Ans:
        """The answer to `op`. Raises what `submit` would have given the callback."""
        future: asyncio.Future[Ans] = self._loop.create_future()

        def settle(result: Ans | TovukError) -> None:
            if future.done():
                return
            if isinstance(result, TovukError):
                future.set_exception(result)
            else:
                future.set_result(result)

        self.submit(op, settle)
        return await future

    async def close(self, *, patience_s: float = 5.0) -> None:
        """Refuse new operations, wait for the answers to those pending, then end the stream."""
        self._closed = True
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while self._pending:  # noqa: ASYNC110 an event would cost the hot path a check an answer
                    await asyncio.sleep(0.005)
        self._sweeper.cancel()
        self._runner.cancel()
        await asyncio.wait([self._runner])
        self._lose(orderly=False)
        self._fail_queued(self._channel.unavailable)

    # The stream: opened again for ever.

    async def _run(self) -> None:
        wait_s = RECONNECT_FIRST_S
        was_open = True
        while True:
            began = self._loop.time()
            end = await self._talk()
            opened, self._stream = self._stream is not None, None
            if end.status is grpc.StatusCode.UNAUTHENTICATED:
                _logger.error("the %s service refuses the internal key", self._channel.service_name)
                self._fail_queued(InternalError)
            elif end.status is not grpc.StatusCode.OK:
                # Told once, not at every attempt while the service is away.
                level = logging.INFO if opened or was_open else logging.DEBUG
                _logger.log(level, "no stream to %s: %s", self._channel.service_name, end.details)
            self._lose(orderly=end.status is grpc.StatusCode.OK)
            was_open = opened
            if opened and self._loop.time() - began > RECONNECT_LAST_S:
                wait_s = RECONNECT_FIRST_S
                continue
            if not opened:
                self._fail_queued(self._channel.unavailable)
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, RECONNECT_LAST_S)

    async def _talk(self) -> End:
        """Open a stream and let it live to its end."""
        self._streams.inc()
        try:
            stream = await open_stream(
                data_target(self._channel.target),
                self._exchange,
                self._channel.metadata(),
                on_open=self._opened,
                on_message=self._received,
                on_room=self._flush,
            )
        except OSError as error:
            return End(grpc.StatusCode.UNAVAILABLE, str(error))
        try:
            await asyncio.wait([stream.ended])
            return stream.ended.result()
        finally:
            stream.close()

    def _opened(self, stream: Stream) -> None:
        """The server does this as soon as it has checked the key: nothing leaves before."""
        self._stream = stream
        self._flush()

    def _flush(self) -> None:
        """Send what may leave now."""
        self._flush_is_due = False
        stream = self._stream
        if stream is None:
            return
        for lane in tuple(self._lanes):
            while (lane.queue or lane.encoded) and not stream.congested:
                now = self._loop.time()
                wait_s = lane.wait_s(now)
                if wait_s:
                    if not lane.timed:
                        lane.timed = True
                        self._loop.call_later(wait_s, self._lose_patience, lane)
                    break
                self._send(stream, lane, now)
                if stream.congested and lane is self._lanes[0]:
                    # The one that filled the stream comes last.
                    self._lanes.reverse()

    def _send(self, stream: Stream, lane: _Lane[Op, Ans], now: float) -> None:
        """Send the lane's next frame."""
        if not lane.encoded:
            queue, pending = lane.queue, self._pending
            entries = [queue.popleft() for _ in range(min(len(queue), FRAME_OPERATIONS_MAX))]
            # An operation that met its deadline in the queue is no longer pending.
            lane.encoded.extend(self._encoded([entry for entry in entries if entry.op.id in pending]))
            if not lane.encoded:
                return
        payload, entries = lane.encoded.popleft()
        frame = entries[0].frame
        assert frame is not None
        frame.sent_at = now
        lane.frames.append(frame)
        self._frames.inc()
        self._operations.inc(len(entries))
        stream.send(Frame(payload=payload).SerializeToString())

    def _encoded(self, entries: list[_Pending[Op, Ans]]) -> list[tuple[bytes, list[_Pending[Op, Ans]]]]:
        """The entries as the payloads of frames. From here on they count as having left: they are not taken out."""
        if not entries:
            return []
        try:
            parts = payloads(entries, self._encode_entries)
        except Exception:  # noqa: BLE001 told of where the operation is found
            parts = list(self._encoded_alone(entries))
        for _, part in parts:
            frame = _Frame(len(part))
            for entry in part:
                entry.frame = frame
        return parts

    def _encode_entries(self, entries: list[_Pending[Op, Ans]]) -> bytes:
        return self._encode([entry.op for entry in entries])

    def _encoded_alone(self, entries: list[_Pending[Op, Ans]]) -> Iterator[tuple[bytes, list[_Pending[Op, Ans]]]]:
        """One payload an operation: one that cannot be encoded, such as text with lone surrogates, fails alone."""
        for entry in entries:
            try:
                yield self._encode([entry.op]), [entry]
            except Exception:
                _logger.exception("an operation cannot be encoded")
                del self._pending[entry.op.id]
                _give(entry.callback, InternalError())

    def _lose_patience(self, lane: _Lane[Op, Ans]) -> None:
        lane.timed = False
        self._flush()

    def _received(self, message: bytes) -> None:
        try:
            answers = self._decode(Frame.FromString(message).payload)
        except (DecodeError, msgspec.MsgspecError):
            _logger.exception("the %s service sent a malformed frame", self._channel.service_name)
            if self._stream is not None:
                self._stream.close()
            return
        pending = self._pending
        settled: list[tuple[Callable[[Ans | TovukError], None], Ans | TovukError]] = []
        for answer in answers:
            entry = pending.pop(answer.id, None)
            # None: it came after its deadline.
            if entry is not None:
                entry.frame.remaining -= 1  # type: ignore[union-attr] # an answered operation has left
                settled.append((entry.callback, _error_of(answer) if isinstance(answer, Failed) else answer))
        # First, so that the service works while the callbacks do.
        self._flush()
        for callback, result in settled:
            try:
                callback(result)
            except Exception:
                _logger.exception("a callback failed")

    # What became of operations that will not be answered.

    def _lose(self, *, orderly: bool) -> None:
        """The stream is gone: queue again what may be sent again, fail the rest."""
        for lane in self._lanes:
            lane.frames.clear()
            for _, part in reversed(lane.encoded):
                # They never left.
                for entry in part:
                    entry.frame = None
                lane.queue.extendleft(reversed([entry for entry in part if entry.op.id in self._pending]))
            lane.encoded.clear()
        again = []
        for entry in [entry for entry in self._pending.values() if entry.frame is not None]:
            if not entry.resent and (orderly or self._is_read(entry.op)):
                entry.frame, entry.resent = None, True
                again.append(entry)
            else:
                self._fail(entry, nothing_done=orderly)
        for entry in reversed(again):
            entry.lane.queue.appendleft(entry)

    def _fail_queued(self, make_error: Callable[[], TovukError]) -> None:
        # One error each: callers raise them, and an exception holds the stack it was raised through.
        queued = [*self._reads.queue, *self._mutations.queue]
        self._reads.queue.clear()
        self._mutations.queue.clear()
        for entry in queued:
            if self._pending.pop(entry.op.id, None) is not None:
                _give(entry.callback, make_error())

    def _fail(self, entry: _Pending[Op, Ans], *, nothing_done: bool) -> None:
        self._pending.pop(entry.op.id, None)
        if nothing_done or entry.frame is None or self._is_read(entry.op):
            _give(entry.callback, self._channel.unavailable())
        else:
            _give(entry.callback, self._channel.outcome_unknown())

    def _sweep(self) -> None:
        self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)
        now = self._loop.time()
        if self._stream is not None:
            self._stream.watch(now)
        overdue = []
        for entry in self._pending.values():
            if entry.deadline > now:
                break
            overdue.append(entry)
        for entry in overdue:
            if entry.frame is not None:
                entry.frame.remaining -= 1
            self._fail(entry, nothing_done=False)


def payloads(items: list[Item], encode: Callable[[list[Item]], bytes]) -> list[tuple[bytes, list[Item]]]:
    """The items as payloads of at most FRAME_BYTES_MAX, halved until they fit; a single item is never cut."""
    payload = encode(items)
    if len(payload) <= FRAME_BYTES_MAX or len(items) == 1:
        return [(payload, items)]
    middle = len(items) // 2
    return payloads(items[:middle], encode) + payloads(items[middle:], encode)


def _error_of(answer: Failed) -> RemoteError:
    retry_after_ms = answer.retry_after_ms if answer.retry_after_ms >= 0 else None
    return RemoteError(answer.code, answer.params, Outcome(answer.outcome), retry_after_ms)


def _give(callback: Callable[[Any], None], result: object) -> None:
    try:
        callback(result)
    except Exception:
        _logger.exception("a callback failed")
