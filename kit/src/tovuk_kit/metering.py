"""How a service's process reaches metering: its leases over gRPC, its reports over JetStream, its notices over NATS."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence

import nats
from nats.aio.client import Client as NatsClient
from nats.errors import Error as NatsError

from tovuk.metering.v1 import metering_pb2 as wire
from tovuk.metering.v1.metering_pb2_grpc import LeasesStub
from tovuk_kit import tasks
from tovuk_kit.client import Channel
from tovuk_kit.leases import Meters
from tovuk_kit.notices import Notices
from tovuk_kit.usage import UsageStore

#: A call that holds up a request: metering answers in milliseconds or is away.
LEASE_CALL_TIMEOUT_S = 1.5
#: How long JetStream may take to acknowledge a report, its fsync included.
PUBLISH_TIMEOUT_S = 2.0
RECONNECT_S = 0.5

_log = logging.getLogger(__name__)


class MeteringLeases:
    """`Leases` over a channel. Every call may be repeated: versions make a lost answer harmless."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._stub = LeasesStub(channel.grpc)

    async def sync(self, request: wire.SyncRequest) -> wire.SyncReply:
        reply: wire.SyncReply = await self._channel.unary(
            self._stub.Sync, request, timeout_s=LEASE_CALL_TIMEOUT_S, retry=False
        )
        return reply

    async def acquire(self, request: wire.AcquireRequest) -> wire.AcquireReply:
        reply: wire.AcquireReply = await self._channel.unary(
            self._stub.Acquire, request, timeout_s=LEASE_CALL_TIMEOUT_S, retry=True
        )
        return reply

    async def trim(self, request: wire.TrimRequest) -> wire.LeaseState:
        reply: wire.LeaseState = await self._channel.unary(
            self._stub.Trim, request, timeout_s=LEASE_CALL_TIMEOUT_S, retry=True
        )
        return reply

    async def allow(self, request: wire.AllowRequest) -> wire.AllowReply:
        reply: wire.AllowReply = await self._channel.unary(
            self._stub.Allow, request, timeout_s=LEASE_CALL_TIMEOUT_S, retry=True
        )
        return reply

    async def trim_level(self, request: wire.TrimLevelRequest) -> wire.TrimLevelReply:
        reply: wire.TrimLevelReply = await self._channel.unary(
            self._stub.TrimLevel, request, timeout_s=LEASE_CALL_TIMEOUT_S, retry=True
        )
        return reply


class JetStreamReports:
    """The pipe to metering: subject `tovuk.usage.<service>`. Connects in the background, for ever."""

    def __init__(self, url: str, service: str) -> None:
        self._url = url
        self._subject = f"tovuk.usage.{service}"
        self._client: NatsClient | None = None
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def publish(self, report: wire.UsageReport) -> bool:
        """Whether JetStream has stored the report. False while it cannot be reached or has no stream."""
        client = self._client
        if client is None or not client.is_connected:
            return False
        try:
            await client.jetstream(timeout=PUBLISH_TIMEOUT_S).publish(self._subject, report.SerializeToString())
        except (NatsError, OSError, TimeoutError) as error:
            _log.info("usage could not be published: %r", error)
            return False
        return True

    async def close(self) -> None:
        """End the connection."""
        await tasks.end([self._connecting])
        if self._client is not None:
            with contextlib.suppress(NatsError, OSError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._client.close()

    async def _connect(self) -> None:
        while True:
            try:
                # After the first connection the library itself connects again.
                self._client = await nats.connect(
                    self._url,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=RECONNECT_S,
                    connect_timeout=2,
                    error_cb=_log_error,
                )
            except (NatsError, OSError, TimeoutError):
                await asyncio.sleep(RECONNECT_S)
            else:
                return


async def _log_error(error: Exception) -> None:
    _log.info("NATS: %r", error)


class MeteredProcess:
    """The meters of a process with their connections: `meters` is what requests charge."""

    def __init__(self, *, service: str, channel: Channel, nats_url: str, notices: Notices) -> None:
        """`notices` is the process's connection for change notices; `service` names the subject of the reports."""
        self._reports = JetStreamReports(nats_url, service)
        self.meters = Meters(leases=MeteringLeases(channel), reports=self._reports)
        notices.subscribe("tovuk.metering.sync", lambda _subject, _payload: self.meters.hurry())
        notices.subscribe("tovuk.changed.caps.*", self._caps_changed)

    async def start(self, stores: Sequence[UsageStore]) -> None:
        """Begin an epoch at every store; raises StoreUnavailable."""
        await self.meters.start(stores)

    async def close(self) -> None:
        """Report all as final, within a bound, and leave."""
        await self.meters.close()
        await self._reports.close()

    def _caps_changed(self, subject: str, _payload: bytes) -> None:
        self.meters.limits_changed(subject.rpartition(".")[2])
