"""Change notices over plain NATS: they hurry what would happen anyway, so that their absence never fails anything."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from tovuk_kit import tasks

#: Notices kept for sending while NATS is slow; the oldest are dropped.
OUTGOING_NOTICES_MAX = 1000
#: Seconds between two attempts to connect.
RECONNECT_S = 1.0

_logger = logging.getLogger(__name__)

#: Gets a notice's subject and payload, on the event loop.
Callback = Callable[[str, bytes], None]


class Notices:
    """A connection that is made in the background and made again for ever. Nothing here blocks or raises."""

    def __init__(self) -> None:
        self._subscriptions: list[tuple[str, Callback]] = []
        self._outgoing: deque[tuple[str, bytes]] = deque(maxlen=OUTGOING_NOTICES_MAX)
        self._wake = asyncio.Event()
        self._client: Client | None = None
        self._runner: asyncio.Task[None] | None = None

    async def connect(self, url: str) -> None:
        """Begin to connect and return at once. An empty url is no NATS: notices then go nowhere."""
        if url and self._runner is None:
            self._runner = asyncio.get_running_loop().create_task(self._run(url))

    @property
    def connected(self) -> bool:
        """Whether a notice published now would leave now."""
        return self._client is not None and self._client.is_connected

    def publish(self, subject: str, payload: bytes = b"") -> None:
        """Send a notice soon; dropped while NATS cannot be reached."""
        if self.connected:
            self._outgoing.append((subject, payload))
            self._wake.set()

    def subscribe(self, subject: str, callback: Callback) -> None:
        """Give every notice on `subject`, which may hold wildcards, to `callback`. What it raises is logged."""
        self._subscriptions.append((subject, callback))
        self._wake.set()

    async def close(self) -> None:
        """Send what is queued and end the connection, within a second."""
        if self._runner is None:
            return
        try:
            async with asyncio.timeout(1.0):
                while self._outgoing and self.connected:  # noqa: ASYNC110 a drain at the end, not a wait for an event
                    await asyncio.sleep(0.01)
                if self._client is not None:
                    await self._client.flush()
                    await self._client.close()
        except (TimeoutError, NatsError, OSError) as error:
            _logger.info("leaving NATS: %r", error)
        await tasks.end([self._runner])

    async def _run(self, url: str) -> None:
        client = await self._connect(url)
        subscribed = 0
        while True:
            self._wake.clear()
            try:
                while subscribed < len(self._subscriptions):
                    subject, callback = self._subscriptions[subscribed]
                    await client.subscribe(subject, cb=_guarded(callback))
                    subscribed += 1
                while self._outgoing:
                    subject, payload = self._outgoing.popleft()
                    await client.publish(subject, payload)
            except (NatsError, OSError) as error:
                _logger.info("a notice was lost: %r", error)
                await asyncio.sleep(RECONNECT_S)
                continue
            await self._wake.wait()

    async def _connect(self, url: str) -> Client:
        while True:
            try:
                # The library itself connects again once it has connected; it gives up only on the first attempt.
                self._client = await nats.connect(
                    url,
                    allow_reconnect=True,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=RECONNECT_S,
                    connect_timeout=2,
                    error_cb=_log_error,
                    disconnected_cb=_log_disconnected,
                    reconnected_cb=_log_reconnected,
                )
            except (NatsError, OSError, TimeoutError) as error:
                _logger.info("NATS cannot be reached: %r", error)
                await asyncio.sleep(RECONNECT_S)
            else:
                return self._client


def _guarded(callback: Callback) -> Callable[[Msg], Awaitable[None]]:
    async def receive(message: Msg) -> None:
        try:
            callback(message.subject, message.data)
        except Exception:
            _logger.exception("a notice's callback failed")

    return receive


async def _log_error(error: Exception) -> None:
    # One an attempt while NATS is away.
    _logger.debug("NATS: %r", error)


async def _log_disconnected() -> None:
    _logger.info("NATS is away")


async def _log_reconnected() -> None:
    _logger.info("NATS is back")
