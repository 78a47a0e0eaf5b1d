"""Calls to other services: deadlines, the internal key, the request id, and the only place that repeats a call."""

import asyncio
import math
import random
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError

from tovuk.common.v1.common_pb2 import Error
from tovuk_kit.errors import (
    InternalError,
    NotInternal,
    Outcome,
    OutcomeUnknown,
    RemoteError,
    ServiceUnavailable,
    TovukError,
)
from tovuk_kit.telemetry import client_span, counter, histogram, request_id

#: Metadata of every call, and the trailer of a failed one.
KEY_METADATA = "tovuk-internal-key"
REQUEST_ID_METADATA = "tovuk-request-id"
ERROR_TRAILER = "tovuk-error-bin"

#: Bytes of one message, on both sides.
MESSAGE_BYTES_MAX = 8 * 1024 * 1024
#: Bytes of a call's metadata; an error's params travel there.
METADATA_BYTES_MAX = 64 * 1024

CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.absolute_max_metadata_size", METADATA_BYTES_MAX),
    # A restarted service is found within a quarter of a second. The "minimum" is what one attempt to connect may take.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    # A container that comes back at another address is found as soon; gRPC's own pause between look-ups is 30 s.
    ("grpc.dns_min_time_between_resolutions_ms", 500),
    # A peer that vanished without a word is noticed; idle channels are kept.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Without a retry policy gRPC sends only those calls again that the server's transport refused unseen. Every other
    # repeat is decided here, by what the call does.
    ("grpc.enable_retries", 1),
    # Proxies of the environment are not for us.
    ("grpc.enable_http_proxy", 0),
)

#: Seconds before a call is repeated; doubled up to the last, each halved at random at most.
_REPEAT_FIRST_S, _REPEAT_LAST_S = 0.025, 0.200
#: Seconds from the first refused connection for which calls are repeated. A killed service listens again in less, which
#: its callers then never notice. What is still gone after that is down, and nobody gains from waiting for it: not the
#: caller, whose answer says that nothing was done and when to come again, nor the caller's other calls. The seconds
#: count from the outage's beginning, not the call's, so that a request of several calls waits for them once.
RESTART_WINDOW_S = 1.0
#: What a client is told to wait for a service that is gone.
_RETRY_AFTER_MS = 1000

Reply = TypeVar("Reply")


class ServiceLeaving(TovukError):
    """This process is on its way out and takes no more calls; the next one will."""

    code = "service_leaving"


def data_target(target: str) -> str:
    """Where the service at the gRPC address `target` has its data channel: `unix:/path.data`, or the next port."""
    if target.startswith("unix:"):
        return f"{target}.data"
    host, _, port = target.rpartition(":")
    return f"{host}:{int(port) + 1}"


class Channel:
    """A channel to one service. Make stubs over `grpc`; call them through this class."""

    def __init__(self, target: str, internal_key: str, service_name: str) -> None:
        """`target` is `unix:/path` or `host:port`; `service_name` is what errors and metrics call it."""
        self.target = target
        self.service_name = service_name
        self.grpc = grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)
        self._key = (KEY_METADATA, internal_key)
        #: Loop time of the first refused connection since one was made; None while the service is not known to be gone.
        self._gone_since: float | None = None

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The metadata of a call made now."""
        current = request_id.get()
        return (self._key, (REQUEST_ID_METADATA, current)) if current else (self._key,)

    async def unary(
        self, method: Callable[..., Awaitable[Reply]], request: object, *, timeout_s: float = 5.0, retry: bool
    ) -> Reply:
        """The reply of one call.

        With `retry`, which is for reads and idempotent calls, it is repeated until the deadline while the service
        cannot be reached, but for RESTART_WINDOW_S at most where nobody listens. Raises RemoteError with what the
        service said; ServiceUnavailable when nothing was done; OutcomeUnknown when the request of a mutation may have
        left; InternalError when the two sides do not fit.
        """
        name = _method_name(method)
        loop = asyncio.get_running_loop()
        began = loop.time()
        end = began + timeout_s
        wait_s = _REPEAT_FIRST_S
        with client_span(self.service_name, name) as trace_metadata:
            metadata = self.metadata() + trace_metadata
            while True:
                try:
                    reply = await method(request, timeout=max(end - loop.time(), 0.001), metadata=metadata)
                except grpc.aio.AioRpcError as failure:
                    pause_s = wait_s * random.uniform(0.5, 1)  # noqa: S311 spreads repeats, keeps no secret
                    if retry and _may_pass(failure) and loop.time() + pause_s < min(end, self._patience_end(failure)):
                        await asyncio.sleep(pause_s)
                        wait_s = min(wait_s * 2, _REPEAT_LAST_S)
                        continue
                    self._count(name, failure.code(), began)
                    raise self.error(failure, is_read=retry) from failure
                self._gone_since = None
                self._count(name, grpc.StatusCode.OK, began)
                return reply

    async def send_stream(
        self,
        method: Callable[..., Awaitable[Reply]],
        requests: AsyncIterable[object],
        *,
        timeout_s: float,
        is_read: bool = False,
    ) -> Reply:
        """The reply of a call that takes a stream of requests.

        Raises as `unary`, and what `requests` raises, which ends the call; is never repeated.
        """
        name = _method_name(method)
        began = asyncio.get_running_loop().time()
        failed: list[Exception] = []

        async def sent() -> AsyncGenerator[object, None]:
            try:
                async for request in requests:
                    yield request
            except Exception as error:
                failed.append(error)
                raise

        with client_span(self.service_name, name) as trace_metadata:
            try:
                reply = await method(sent(), timeout=timeout_s, metadata=self.metadata() + trace_metadata)
            except asyncio.CancelledError:
                # So gRPC tells that its requests have failed.
                if not failed:
                    raise
                self._count(name, grpc.StatusCode.CANCELLED, began)
                raise failed[0] from None
            except grpc.aio.AioRpcError as failure:
                self._count(name, failure.code(), began)
                raise self.error(failure, is_read=is_read) from failure
        self._count(name, grpc.StatusCode.OK, began)
        return reply

    async def receive_stream(
        self,
        method: Callable[..., grpc.aio.UnaryStreamCall[Any, Reply]],
        request: object,
        *,
        timeout_s: float,
        is_read: bool = True,
    ) -> AsyncGenerator[Reply, None]:
        """The replies of a call that gives a stream, as they come; raises as `unary`, is never repeated.

        Leaving the iteration early cancels the call: iterate within `contextlib.aclosing`.
        """
        name = _method_name(method)
        began = asyncio.get_running_loop().time()
        with client_span(self.service_name, name) as trace_metadata:
            call = method(request, timeout=timeout_s, metadata=self.metadata() + trace_metadata)
            try:
                async for reply in call:
                    yield reply
            except grpc.aio.AioRpcError as failure:
                self._count(name, failure.code(), began)
                raise self.error(failure, is_read=is_read) from failure
            finally:
                call.cancel()
        self._count(name, grpc.StatusCode.OK, began)

    async def close(self) -> None:
        """End the channel; calls in flight are cancelled."""
        await self.grpc.close()

    def error(self, failure: grpc.aio.AioRpcError, *, is_read: bool) -> TovukError:
        """What a failed call means: see `unary`."""
        remote = _remote_error(failure)
        match remote:
            case RemoteError(code=NotInternal.code):
                return InternalError()
            case RemoteError(code=ServiceLeaving.code):
                return self.unavailable()
            case RemoteError():
                return remote
        code = failure.code()
        if code not in _LOST:
            return InternalError(outcome=Outcome.NOT_DONE if is_read else Outcome.UNKNOWN)
        if is_read or surely_not_sent(failure):
            return self.unavailable()
        return self.outcome_unknown()

    def unavailable(self) -> ServiceUnavailable:
        """This channel's service cannot be reached, and nothing was done."""
        return ServiceUnavailable(retry_after_ms=_RETRY_AFTER_MS, service=self.service_name)

    def outcome_unknown(self) -> OutcomeUnknown:
        """This channel's service was lost with a mutation."""
        return OutcomeUnknown(outcome=Outcome.UNKNOWN, service=self.service_name)

    def _patience_end(self, failure: grpc.aio.AioRpcError) -> float:
        """The loop time after which this failure is no reason to repeat."""
        if not surely_not_sent(failure):
            self._gone_since = None
            return math.inf
        if self._gone_since is None:
            self._gone_since = asyncio.get_running_loop().time()
        return self._gone_since + RESTART_WINDOW_S

    def _count(self, method: str, status: grpc.StatusCode, began: float) -> None:
        counter("tovuk_client_calls_total", self.service_name, method, status.name).inc()
        seconds = asyncio.get_running_loop().time() - began
        histogram("tovuk_client_call_seconds", self.service_name, method).observe(seconds)


#: Statuses that say the transport or the time ended a call, not the service.
_LOST = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED, grpc.StatusCode.ABORTED}
)


#: No listener, and no address: a stopped container's name is gone with it.
_NEVER_CONNECTED = ("failed to connect to all addresses", "errors resolving ")


def surely_not_sent(failure: grpc.aio.AioRpcError) -> bool:
    """Whether the call never had a connection to leave by.

    gRPC says so in words only. Were the words to change, mutations would answer OutcomeUnknown, which errs on the safe
    side, and test_client would fail.
    """
    details = failure.details() or ""
    return failure.code() is grpc.StatusCode.UNAVAILABLE and details.startswith(_NEVER_CONNECTED)


def _may_pass(failure: grpc.aio.AioRpcError) -> bool:
    """Whether the service itself was not reached; what it said of its own store, say, is for the caller to judge."""
    remote = _remote_error(failure)
    return failure.code() is grpc.StatusCode.UNAVAILABLE and (remote is None or remote.code == ServiceLeaving.code)


def _remote_error(failure: grpc.aio.AioRpcError) -> RemoteError | None:
    for name, value in failure.trailing_metadata() or ():
        if name == ERROR_TRAILER:
            try:
                said = Error.FromString(value if isinstance(value, bytes) else value.encode())
                outcome = Outcome(said.outcome)
            except (DecodeError, ValueError):
                return None
            retry_after_ms = said.retry_after_ms if said.HasField("retry_after_ms") else None
            return RemoteError(said.code, dict(said.params), outcome, retry_after_ms)
    return None


def _method_name(method: Any) -> str:
    """The method's path, `/tovuk.kv.v1.KvData/PutLarge`; grpc.aio keeps it in a private attribute only."""
    path = getattr(method, "_method", b"")
    return path.decode() if isinstance(path, bytes) else str(path)
