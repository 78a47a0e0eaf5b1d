"""Reports over a real JetStream, which may be wiped at any moment."""

import asyncio
from collections.abc import AsyncIterator

import nats
import pytest
import pytest_asyncio
from nats.aio.client import Client
from nats.js.api import DiscardPolicy
from nats.js.errors import APIError

from tovuk.metering.v1 import metering_pb2 as wire
from tovuk_metering.clients import usage_stream
from tovuk_metering.clients.reports import LeaseTotals, LevelTotals, Report
from tovuk_metering.clients.usage_stream import CONSUMER, STREAM, Delivery, StreamUnavailable, UsageStream


@pytest_asyncio.fixture
async def stream(nats_url: str) -> AsyncIterator[UsageStream]:
    stream = UsageStream(nats_url)
    yield stream
    await stream.close()


@pytest_asyncio.fixture
async def client(nats_url: str) -> AsyncIterator[Client]:
    client = await nats.connect(nats_url)
    yield client
    await client.close()


def report(lease_id: int) -> bytes:
    line = wire.UsageLine(service_id="service_1", resource_id="kv_1", units=3)
    lease = wire.LeaseTotals(lease_id=lease_id, epoch=2, seq=3, final=True, lines=[line])
    level = wire.LevelTotals(account_id="account_1", meter="kv_storage_bytes", seq=4, bytes=3, lines=[line])
    return wire.UsageReport(store="kv/one/0", leases=[lease], levels=[level]).SerializeToString()


async def fetch(stream: UsageStream) -> Delivery:
    """The next delivery with reports, over as many losses of the stream as it takes."""
    async with asyncio.timeout(20):
        while True:
            try:
                delivery = await stream.fetch(10)
            except StreamUnavailable:
                await asyncio.sleep(0.05)
                continue
            if delivery.messages:
                return delivery


async def test_reports_come_out_as_they_went_in(stream: UsageStream, client: Client) -> None:
    assert (await stream.fetch(10)).reports == ()
    await client.jetstream().publish("tovuk.usage.kv", report(1))
    lines = {("service_1", "kv_1"): 3}
    assert (await fetch(stream)).reports == [
        Report(
            "kv/one/0",
            [LeaseTotals(1, 2, 3, True, lines)],
            [LevelTotals("account_1", "kv_storage_bytes", 4, 3, lines)],
        )
    ]


async def test_what_is_acknowledged_comes_no_more_and_the_rest_comes_again(
    stream: UsageStream, client: Client, nats_url: str
) -> None:
    await stream.fetch(1)
    for lease_id in (1, 2):
        await client.jetstream().publish("tovuk.usage.kv", report(lease_id))
    taken = await stream.fetch(1)
    await taken.ack()
    lost = await stream.fetch(1)
    await lost.messages[0].nak()
    again = await fetch(stream)
    assert [report.leases[0].lease_id for report in again.reports] == [2]


async def test_a_message_that_is_no_report_is_dropped(stream: UsageStream, client: Client) -> None:
    await stream.fetch(1)
    await client.jetstream().publish("tovuk.usage.kv", b"\xff\xff\xff")
    delivery = await fetch(stream)
    assert (delivery.reports, len(delivery.messages)) == ([], 1)


@pytest.mark.parametrize("lost", ["stream", "consumer"])
async def test_a_stream_that_was_wiped_is_made_again(stream: UsageStream, client: Client, lost: str) -> None:
    await stream.fetch(1)
    manager = client.jsm()
    await (manager.delete_stream(STREAM) if lost == "stream" else manager.delete_consumer(STREAM, CONSUMER))
    with pytest.raises(StreamUnavailable):
        await stream.fetch(1)
    await stream.fetch(1)
    await client.jetstream().publish("tovuk.usage.kv", report(7))
    assert (await fetch(stream)).reports[0].leases[0].lease_id == 7


async def test_an_absent_server_is_said_to_be_unavailable() -> None:
    with pytest.raises(StreamUnavailable):
        await UsageStream("nats://127.0.0.1:1").fetch(1)


async def test_a_stream_that_takes_no_reports_is_made_anew(
    stream: UsageStream, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_stream, "PROBE_AFTER_LOOKS", 1)
    await stream.fetch(10)
    await (await fetch(stream)).ack()
    full = (await client.jetstream().stream_info(STREAM)).config.evolve(discard=DiscardPolicy.NEW, max_bytes=1)
    await client.jetstream().update_stream(full)
    with pytest.raises(APIError):
        await client.jetstream().publish("tovuk.usage.kv", report(1))
    with pytest.raises(StreamUnavailable):
        await stream.fetch(10)
    await stream.fetch(10)
    await client.jetstream().publish("tovuk.usage.kv", report(1))
    assert len((await fetch(stream)).reports) == 1


async def test_a_message_of_our_own_is_no_report(
    stream: UsageStream, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_stream, "PROBE_AFTER_LOOKS", 1)
    await stream.fetch(10)
    delivery = await fetch(stream)
    assert delivery.messages and not delivery.reports
    await delivery.ack()
