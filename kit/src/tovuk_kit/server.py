"""Hosting a service: gRPC with the internal key, errors as trailers, health, the ops endpoint, and an orderly end."""

import asyncio
import gc
import hmac
import logging
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import grpc
import uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from pydantic import SecretStr

from tovuk.common.v1.common_pb2 import Error
from tovuk_kit.client import (
    ERROR_TRAILER,
    KEY_METADATA,
    MESSAGE_BYTES_MAX,
    METADATA_BYTES_MAX,
    REQUEST_ID_METADATA,
    ServiceLeaving,
    data_target,
)
from tovuk_kit.errors import InternalError, NotInternal, Outcome, TovukError
from tovuk_kit.exchange import Exchange, ExchangeServer
from tovuk_kit.ids import new_id
from tovuk_kit.ops import OpsEndpoint
from tovuk_kit.telemetry import counter, histogram, request_id, server_span

#: Adds a servicer to a server: `partial(add_KvDataServicer_to_server, servicer)`.
Registration = Callable[[grpc.aio.Server], None]

#: Seconds a draining server waits for its calls before it cancels them.
DRAIN_S = 10.0
#: Seconds the replies of finished calls may take to leave.
_LAST_BYTES_S = 1.0
#: Seconds between two looks at the service's own readiness, for the health service.
READINESS_S = 1.0

_SERVER_OPTIONS = (
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.absolute_max_metadata_size", METADATA_BYTES_MAX),
    # Clients ping idle channels; without these the server would answer with too_many_pings.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # A second process on the same port is a mistake, not a replica.
    ("grpc.so_reuseport", 0),
)

_HEALTH_PREFIX = "/grpc.health.v1.Health/"

_logger = logging.getLogger(__name__)


class ServerSettings(Protocol):
    """What `serve` reads of a service's settings."""

    @property
    def listen(self) -> str: ...

    @property
    def ops_listen(self) -> str: ...

    @property
    def internal_key(self) -> SecretStr: ...

    def describe(self) -> str: ...


async def serve(
    *,
    settings: ServerSettings,
    services: Sequence[Registration],
    ready: Callable[[], Awaitable[bool]],
    stop: Callable[[], Awaitable[None]],
    exchange: Exchange[Any, Any] | None = None,
) -> None:
    """Host `services`, and the data channel beside them, until SIGTERM or SIGINT, then drain and await `stop`.

    `ready` says whether the service can answer; a False or an exception of it turns readiness off. Raises OSError when
    an address is taken.
    """
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    _logger.info("starting: %s", settings.describe())
    key = settings.internal_key.get_secret_value()
    try:
        server = await start_server(
            settings.listen,
            internal_key=key,
            services=services,
            exchange=exchange,
            ready=ready,
            ops_listen=settings.ops_listen,
        )
        freeze_heap()
        await stopping.wait()
        _logger.info("draining")
        await server.drain()
    finally:
        await stop()


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a service's main coroutine on uvloop."""
    uvloop.run(main)


def freeze_heap() -> None:
    """Let the garbage collector pass over what was made until now: to look through it takes 50 ms, and all wait."""
    gc.collect()
    gc.freeze()


async def start_server(
    listen: str,
    *,
    internal_key: str,
    services: Sequence[Registration],
    exchange: Exchange[Any, Any] | None = None,
    ready: Callable[[], Awaitable[bool]] | None = None,
    ops_listen: str = "",
) -> "RunningServer":
    """A started server on `listen`, and on `data_target(listen)` where it has a data channel.

    Stale socket files are removed; OSError when an address is taken.
    """
    state = _Draining()
    interceptor = _Interceptor(internal_key, state)
    server = grpc.aio.server(options=_SERVER_OPTIONS, interceptors=[interceptor])
    for register in services:
        register(server)
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    port = _bind(server, listen)
    target = listen if listen.startswith("unix:") else f"{listen.rpartition(':')[0]}:{port}"
    data_listener = None if exchange is None else _bind_data(data_target(target))
    await server.start()
    running = RunningServer(server, health_servicer, state, target, ready)
    if exchange is not None and data_listener is not None:
        running.exchange = ExchangeServer(exchange, interceptor.around)
        await running.exchange.start(data_listener)
    if ops_listen:
        running.ops = await OpsEndpoint.listen(ops_listen, running.is_ready)
    await running.publish_readiness()
    return running


class RunningServer:
    """A server that answers calls, until it is drained or stopped."""

    def __init__(
        self,
        server: grpc.aio.Server,
        health_servicer: Any,
        state: "_Draining",
        target: str,
        ready: Callable[[], Awaitable[bool]] | None,
    ) -> None:
        self._server = server
        self._health = health_servicer
        self._state = state
        self._ready = ready
        self._publisher = asyncio.get_running_loop().create_task(self._publish_for_ever())
        #: Where clients find it; the port is the bound one where port 0 was asked for.
        self.target = target
        self.ops: OpsEndpoint | None = None
        self.exchange: ExchangeServer | None = None

    async def is_ready(self) -> bool:
        """Whether calls should come here: not draining, and the service says so."""
        if self._state.begun:
            return False
        if self._ready is None:
            return True
        try:
            return await self._ready()
        except Exception:
            _logger.exception("the readiness check failed")
            return False

    async def publish_readiness(self) -> None:
        """Tell the health service now."""
        status = health_pb2.HealthCheckResponse
        await self._health.set("", status.SERVING if await self.is_ready() else status.NOT_SERVING)

    async def drain(self, grace_s: float = DRAIN_S) -> None:
        """Refuse new calls, let those in flight end for `grace_s` seconds, cancel the rest."""
        self._publisher.cancel()
        self._state.begun = True
        if self.exchange is not None:
            self.exchange.drain()
        await self._health.enter_graceful_shutdown()
        # gRPC's own shutdown tears new calls off without saying that nothing was done, so it comes last.
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                while self._state.calls:  # noqa: ASYNC110 an event would cost every call
                    await asyncio.sleep(0.005)
        last_bytes_s = 0 if self._state.calls else _LAST_BYTES_S
        if self.exchange is not None:
            await self.exchange.close(last_bytes_s)
        await self._server.stop(last_bytes_s)
        if self.ops is not None:
            await self.ops.close()

    async def stop(self) -> None:
        """End at once: calls in flight are cancelled."""
        await self.drain(grace_s=0)

    async def _publish_for_ever(self) -> None:
        while True:
            await asyncio.sleep(READINESS_S)
            await self.publish_readiness()


class _Draining:
    """Whether a server is on its way out, and how many calls it still answers."""

    def __init__(self) -> None:
        self.begun = False
        self.calls = 0


class _Interceptor(grpc.aio.ServerInterceptor):
    """Around every call but the health service's: the key, the request id, errors, metrics, spans."""

    def __init__(self, internal_key: str, state: _Draining) -> None:
        self._key = internal_key.encode()
        self._state = state
        self._wrapped: dict[str, Any] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        method = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            handler = await continuation(handler_call_details)
            if handler is None or method.startswith(_HEALTH_PREFIX):
                return handler
            wrapped = self._wrapped[method] = self._wrap(method, handler)
        return wrapped

    def _wrap(self, method: str, handler: Any) -> Any:
        make = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[handler.request_streaming, handler.response_streaming]
        inner = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream

        async def answer(request: Any, context: Any) -> Any:
            async with self.around(method, context):
                return await inner(request, context)

        async def answer_with_stream(request: Any, context: Any) -> None:
            async with self.around(method, context):
                if handler.request_streaming:
                    # A client of a long-lived stream sends nothing before it knows that it was let in.
                    await context.send_initial_metadata(())
                async with aclosing(inner(request, context)) as replies:
                    async for reply in replies:
                        await context.write(reply)

        behaviour = answer_with_stream if handler.response_streaming else answer
        return make(behaviour, handler.request_deserializer, handler.response_serializer)

    @asynccontextmanager
    async def around(self, method: str, context: Any) -> AsyncIterator[None]:
        """What a call is answered within; `context` is a ServicerContext, or a stream that shows the same of itself."""
        metadata = tuple(context.invocation_metadata() or ())
        said = dict(metadata)
        request_id.set(str(said.get(REQUEST_ID_METADATA, "")) or new_id("request"))
        began = time.perf_counter()
        status = grpc.StatusCode.OK
        self._state.calls += 1
        try:
            with server_span(method, metadata):
                self._check_key(said.get(KEY_METADATA, ""))
                if self._state.begun:
                    raise ServiceLeaving(retry_after_ms=1000)
                yield
        except TovukError as error:
            status = error.entry.family.status
            _logger.log(logging.WARNING if status in _OUR_FAULT else logging.INFO, "%s: %s", method, error)
            await context.abort(status, error.code, _trailer(error))
        except asyncio.CancelledError:
            status = grpc.StatusCode.CANCELLED
            raise
        except grpc.aio.AbortError:
            status = grpc.StatusCode.UNKNOWN
            raise
        except Exception:
            status = grpc.StatusCode.INTERNAL
            _logger.exception("%s failed", method)
            await context.abort(status, InternalError.code, _trailer(InternalError(outcome=Outcome.UNKNOWN)))
        finally:
            self._state.calls -= 1
            counter("tovuk_server_calls_total", method, status.name).inc()
            histogram("tovuk_server_call_seconds", method).observe(time.perf_counter() - began)

    def _check_key(self, said: str | bytes) -> None:
        if not hmac.compare_digest(said if isinstance(said, bytes) else said.encode(), self._key):
            raise NotInternal


#: Statuses worth a warning; the others are the caller's.
_OUR_FAULT = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED})


def _trailer(error: TovukError) -> tuple[tuple[str, bytes]]:
    said = Error(code=error.code, params=error.params, outcome=error.outcome, retry_after_ms=error.retry_after_ms)
    return ((ERROR_TRAILER, said.SerializeToString()),)


def _bind(server: grpc.aio.Server, listen: str) -> int:
    if not listen.startswith("unix:"):
        return _add_port(server, listen)
    path = Path(listen.removeprefix("unix:"))
    _remove_stale_socket(path)
    # gRPC makes the socket itself; only the umask can keep others out from its first moment on.
    before = os.umask(0o177)
    try:
        return _add_port(server, listen)
    finally:
        os.umask(before)


def _add_port(server: grpc.aio.Server, listen: str) -> int:
    try:
        return server.add_insecure_port(listen)
    except RuntimeError as error:
        raise OSError(f"cannot listen on {listen}") from error


def _bind_data(target: str) -> socket.socket:
    try:
        if not target.startswith("unix:"):
            host, _, port = target.rpartition(":")
            host = host.strip("[]")
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            return socket.create_server((host, int(port)), family=family)
        path = target.removeprefix("unix:")
        _remove_stale_socket(Path(path))
        listener = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)
        try:
            listener.bind(path)
            listener.listen()
        except OSError:
            listener.close()
            raise
        finally:
            os.umask(before)
    except (OSError, OverflowError) as error:
        raise OSError(f"cannot listen on {target}") from error
    return listener


def _remove_stale_socket(path: Path) -> None:
    """Remove what a killed process left; gRPC itself would remove a living server's socket just as well."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        else:
            raise OSError(f"another process serves {path}")
