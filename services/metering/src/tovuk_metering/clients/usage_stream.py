"""The stream of usage reports. It may be lost at any time: it is made again, and holders report again."""

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import nats
from google.protobuf.message import DecodeError
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DiscardPolicy, RetentionPolicy, StreamConfig
from nats.js.errors import BadRequestError

from tovuk.metering.v1.metering_pb2 import UsageLine, UsageReport
from tovuk_kit.meters import UNITS_MAX
from tovuk_metering.clients.reports import LeaseTotals, LevelTotals, Lines, Report

STREAM = "TOVUK_USAGE"
SUBJECTS = "tovuk.usage.>"
CONSUMER = "metering"

#: Reports beyond this push out the oldest, which their holders repeat.
STREAM_BYTES_MAX = 64 * 1024 * 1024
#: A report that is not acknowledged for so long is delivered again.
ACK_WAIT_S = 10.0
#: How long one look for reports waits; after a look in vain the consumer's existence is checked.
FETCH_S = 1.0
#: Looks in vain, one after the other, after which a message of our own shows whether the stream still takes any.
PROBE_AFTER_LOOKS = 5
PROBE_SUBJECT = "tovuk.usage.probe"
CALL_S = 2.0

_log = logging.getLogger(__name__)


class StreamUnavailable(Exception):
    """NATS cannot be reached, or has lost the stream; the next call connects anew."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """Reports that are acknowledged once they are applied durably."""

    reports: Sequence[Report]
    messages: Sequence[Msg]

    async def ack(self) -> None:
        """Have them delivered no more. One that cannot be acknowledged comes again, which is no harm."""
        with contextlib.suppress(NatsError, OSError, TimeoutError):
            for message in self.messages:
                await message.ack()


class UsageStream:
    """A durable pull consumer over JetStream."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: Client | None = None
        self._subscription: JetStreamContext.PullSubscription | None = None
        self._looks_in_vain = 0

    async def fetch(self, batch: int) -> Delivery:
        """The next reports, at most `batch`; none after a while without any. Raises StreamUnavailable."""
        try:
            if self._subscription is None:
                self._subscription = await self._attach()
            try:
                messages = await self._subscription.fetch(batch, timeout=FETCH_S)
            except TimeoutError:
                # A stream that was wiped looks like one without reports.
                await self._subscription.consumer_info()
                self._looks_in_vain += 1
                if self._looks_in_vain % PROBE_AFTER_LOOKS == 0:
                    await self._probe()
                return Delivery((), ())
            self._looks_in_vain = 0
        except (NatsError, OSError, TimeoutError) as error:
            await self.close()
            raise StreamUnavailable(repr(error)) from error
        told = [message for message in messages if message.subject != PROBE_SUBJECT]
        return Delivery([report for message in told if (report := _decode(message)) is not None], messages)

    async def close(self) -> None:
        """Let go of the connection."""
        client, self._client, self._subscription = self._client, None, None
        if client is not None:
            with contextlib.suppress(NatsError, OSError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await client.close()

    async def _probe(self) -> None:
        """Drop the stream, to be made anew, when it takes no message: once its disk was full, it never does again."""
        assert self._client is not None
        stream = self._client.jetstream(timeout=CALL_S)
        try:
            await stream.publish(PROBE_SUBJECT, b"")
        except (NatsError, TimeoutError) as error:
            _log.warning("the stream of reports takes none (%r) and is made anew; holders report again", error)
            await stream.delete_stream(STREAM)
            raise

    async def _attach(self) -> JetStreamContext.PullSubscription:
        """Connect, and make the stream and the consumer unless they exist."""
        # By itself it tries a server that refuses for two minutes.
        async with asyncio.timeout(CALL_S):
            self._client = await nats.connect(self._url, allow_reconnect=False, error_cb=_log_error)
        stream = self._client.jetstream(timeout=CALL_S)
        config = StreamConfig(
            name=STREAM,
            subjects=[SUBJECTS],
            retention=RetentionPolicy.WORK_QUEUE,
            discard=DiscardPolicy.OLD,
            max_bytes=STREAM_BYTES_MAX,
        )
        try:
            await stream.add_stream(config)
        except BadRequestError:
            # It exists in another shape, of an older version of this file.
            await stream.update_stream(config)
        return await stream.pull_subscribe(
            SUBJECTS,
            durable=CONSUMER,
            stream=STREAM,
            config=ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, ack_wait=ACK_WAIT_S),
        )


def _decode(message: Msg) -> Report | None:
    try:
        wire = UsageReport.FromString(message.data)
    except DecodeError:
        _log.error("a report of %d bytes on %s cannot be read; it is dropped", len(message.data), message.subject)
        return None
    return Report(
        wire.store,
        [LeaseTotals(_stored(t.lease_id), t.epoch, t.seq, t.final, _lines(t.lines)) for t in wire.leases],
        [
            LevelTotals(t.account_id, t.meter, _stored(t.seq), min(t.bytes, UNITS_MAX), _lines(t.lines))
            for t in wire.levels
        ],
    )


def _lines(lines: Iterable[UsageLine]) -> Lines:
    return {(line.service_id, line.resource_id): min(line.units, UNITS_MAX) for line in lines}


def _stored(number: int) -> int:
    """The number, or the largest a column takes: one report beyond all bounds must not hold up the others."""
    return min(number, 2**63 - 1)


async def _log_error(error: Exception) -> None:
    _log.info("NATS: %r", error)
