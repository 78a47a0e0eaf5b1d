"""The gateway's composition: settings → clients → chain → routes → one HTTP server."""

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import uvicorn

from tovuk_gateway import limits
from tovuk_gateway.api import application
from tovuk_gateway.bodies import Gate
from tovuk_gateway.chain import App, Chain, Front, Metrics
from tovuk_gateway.clients.control import ControlClient
from tovuk_gateway.clients.kv import KvClient, Replica
from tovuk_gateway.clients.metering import MeteringClient
from tovuk_gateway.clients.shards import Shards
from tovuk_gateway.clients.sqlite import SqliteClient
from tovuk_gateway.envelope import Envelope
from tovuk_gateway.hot import Hot
from tovuk_gateway.routes.context import Context
from tovuk_gateway.routes.health import Health
from tovuk_gateway.settings import Settings
from tovuk_kit import telemetry
from tovuk_kit.client import Channel
from tovuk_kit.clock import SystemClock
from tovuk_kit.notices import Notices
from tovuk_kit.ops import OpsEndpoint
from tovuk_kit.server import freeze_heap, run
from tovuk_kit.settings import load

_log = logging.getLogger(__name__)

_METRICS_SECONDS = 1.0
#: Between two looks for the other services at start.
_START_POLL_SECONDS = 0.1
_BACKLOG = 2048


@dataclass(frozen=True, slots=True)
class Gateway:
    """One process's parts, wired."""

    front: App
    hot: Hot
    chain: Chain
    health: Health
    metrics: Metrics


@asynccontextmanager
async def wired(settings: Settings) -> AsyncIterator[Gateway]:
    """The gateway's parts over the services that the settings name. Must be entered within the serving event loop."""
    key = settings.internal_key.get_secret_value()
    async with AsyncExitStack() as stack:
        control = Channel(settings.control_target, key, "control")
        stack.push_async_callback(control.close)
        metering = Channel(settings.metering_target, key, "metering")
        stack.push_async_callback(metering.close)
        kv = KvClient([Replica(Channel(target, key, "kv")) for target in settings.kv_targets])
        stack.push_async_callback(kv.close)
        shards = Shards(ControlClient(control), key)
        stack.push_async_callback(shards.close)
        envelope, metrics = Envelope(settings.public_url), Metrics()
        chain = Chain(ControlClient(control), SystemClock())
        stack.push_async_callback(chain.close)
        notices = Notices()
        await notices.connect(settings.nats_url)
        stack.push_async_callback(notices.close)
        notices.subscribe("tovuk.changed.tokens", lambda _, __: chain.forget_tokens())
        notices.subscribe("tovuk.changed.services.*", lambda subject, _: chain.forget_services(subject.split(".")[-1]))
        notices.subscribe("tovuk.changed.placements.*", lambda subject, _: shards.forget(subject.split(".")[-1]))
        notices.subscribe("tovuk.changed.shards", lambda _, __: shards.look_again())
        context = Context(
            chain,
            envelope,
            ControlClient(control),
            MeteringClient(metering),
            kv,
            SqliteClient(shards),
            Gate(settings.bodies_bytes_max),
            settings.operator_contact,
        )
        health = Health(context)
        hot = Hot(chain, kv, context.sqlite, envelope, metrics)
        stack.callback(hot.close)
        front = Front(application(context, health), envelope, metrics)
        yield Gateway(front, hot, chain, health, metrics)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: after a drain they would end the process as if the signal had killed it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def server(gateway: Gateway, *, drain_seconds: int, protocol: Any = None) -> uvicorn.Server:
    """The HTTP server; `protocol` takes the fast path's place, as the tests of both paths need."""
    return _Server(
        uvicorn.Config(
            gateway.front,
            http=protocol or gateway.hot.protocol,  # type: ignore[arg-type] # called as the class would be
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=limits.KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=drain_seconds,
            backlog=_BACKLOG,
        )
    )


def bound_socket(listen: str) -> socket.socket:
    """A listening socket on host:port that several processes share; the kernel spreads connections over them."""
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, int(port)), family=family, backlog=_BACKLOG, reuse_port=True)
    # Connections inherit it. asyncio would set it on sockets of its own making only, and an answer's second part would
    # wait 40 ms for the acknowledgement of its first.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


async def _others(gateway: Gateway, within_seconds: float) -> None:
    """Wait until every service can be reached, so that the first answer of /healthz means a working house."""
    try:
        async with asyncio.timeout(within_seconds):
            while not await gateway.health.ready(fresh=True):  # noqa: ASYNC110 nobody tells when others are up
                await asyncio.sleep(_START_POLL_SECONDS)
    except TimeoutError:
        _log.warning("listening although not every service can be reached")


async def _flush_metrics(metrics: Metrics) -> None:
    while True:
        await asyncio.sleep(_METRICS_SECONDS)
        metrics.flush()


async def _serve(settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    starting = asyncio.current_task()
    assert starting is not None
    async with wired(settings) as gateway:
        _on_signals(lambda _: starting.cancel())
        await _others(gateway, settings.start_wait_seconds)
        running = server(gateway, drain_seconds=settings.drain_seconds)
        _on_signals(lambda number: running.handle_exit(number, None))
        flusher = loop.create_task(_flush_metrics(gateway.metrics))
        ops = await OpsEndpoint.listen(settings.ops_listen, gateway.health.ready) if settings.ops_listen else None
        _log.info("starting: %s", settings.describe())
        freeze_heap()
        try:
            await running.serve([bound_socket(settings.listen)])
        finally:
            flusher.cancel()
            if ops is not None:
                await ops.close()


def _on_signals(handle: Callable[[int], object]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, handle, number)


def main() -> None:
    """Run one gateway process."""
    settings = load(Settings)
    telemetry.configure("gateway", settings)
    # uvicorn says every start and stop in prose of its own.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    with suppress(asyncio.CancelledError):
        run(_serve(settings))


if __name__ == "__main__":
    main()
