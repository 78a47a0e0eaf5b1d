"""The real ways to metering: leases over gRPC, reports over JetStream, notices over NATS."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import nats
import pytest
from scripted import ACCOUNT, ScriptedMetering, ScriptedStore, granted, refused

from tovuk.metering.v1 import metering_pb2 as wire
from tovuk.metering.v1.metering_pb2_grpc import LeasesServicer, add_LeasesServicer_to_server
from tovuk_kit.client import Channel
from tovuk_kit.errors import TovukError
from tovuk_kit.leases import UsageCapReached
from tovuk_kit.metering import JetStreamReports, MeteredProcess, MeteringLeases
from tovuk_kit.meters import MeterName
from tovuk_kit.notices import Notices
from tovuk_kit.server import RunningServer, start_server

SUBJECT = "tovuk.usage.kv"
WRITES: MeterName = "kv_writes"


class Servicer(LeasesServicer):
    """Scripted metering behind gRPC."""

    def __init__(self, metering: ScriptedMetering) -> None:
        self._metering = metering

    async def Sync(self, request: wire.SyncRequest, context: Any) -> wire.SyncReply:  # noqa: N802  # gRPC's names
        return await self._metering.sync(request)

    async def Acquire(self, request: wire.AcquireRequest, context: Any) -> wire.AcquireReply:  # noqa: N802
        return await self._metering.acquire(request)

    async def Trim(self, request: wire.TrimRequest, context: Any) -> wire.LeaseState:  # noqa: N802
        return await self._metering.trim(request)

    async def Allow(self, request: wire.AllowRequest, context: Any) -> wire.AllowReply:  # noqa: N802
        return await self._metering.allow(request)

    async def TrimLevel(self, request: wire.TrimLevelRequest, context: Any) -> wire.TrimLevelReply:  # noqa: N802
        return await self._metering.trim_level(request)


@pytest.fixture
def metering() -> ScriptedMetering:
    return ScriptedMetering()


@pytest.fixture
async def server(metering: ScriptedMetering, address: str, internal_key: str) -> AsyncIterator[RunningServer]:
    register = partial(add_LeasesServicer_to_server, Servicer(metering))
    running = await start_server(address, internal_key=internal_key, services=[register])
    yield running
    await running.stop()


async def until(predicate: Callable[[], bool], again: Callable[[], None] = lambda: None) -> None:
    async with asyncio.timeout(20):
        while not predicate():
            again()
            await asyncio.sleep(0.02)


async def until_published(reports: JetStreamReports, report: wire.UsageReport) -> None:
    async with asyncio.timeout(20):
        while not await reports.publish(report):  # noqa: ASYNC110  # the connection tells nobody
            await asyncio.sleep(0.02)


async def test_every_call_reaches_metering_and_brings_its_answer(
    metering: ScriptedMetering, server: RunningServer, channel: Channel
) -> None:
    leases = MeteringLeases(channel)
    metering.acquires.append(granted(7, 3))
    metering.allows.append(wire.AllowReply(allowance=wire.Allowance(version=4, bytes=5)))
    assert (await leases.sync(wire.SyncRequest())).valid_ms == 3_000
    assert (await leases.acquire(wire.AcquireRequest(meter=WRITES, want=1))).granted.granted == 3
    assert (await leases.trim(wire.TrimRequest(lease_id=7, version=1, keep=2))).granted == 2
    assert (await leases.allow(wire.AllowRequest(want_bytes=5))).allowance.bytes == 5
    assert not (await leases.trim_level(wire.TrimLevelRequest(version=4))).stale


async def test_every_call_raises_an_error_of_ours_when_metering_is_away(channel: Channel) -> None:
    leases = MeteringLeases(channel)
    for call in (
        leases.sync(wire.SyncRequest()),
        leases.acquire(wire.AcquireRequest()),
        leases.trim(wire.TrimRequest()),
        leases.allow(wire.AllowRequest()),
        leases.trim_level(wire.TrimLevelRequest()),
    ):
        with pytest.raises(TovukError):
            await call


async def test_a_report_is_taken_only_once_a_stream_has_stored_it(nats_url: str) -> None:
    report = wire.UsageReport(store="kv/store/0", leases=[wire.LeaseTotals(lease_id=7, seq=3)])
    reports = JetStreamReports(nats_url, "kv")
    client = await nats.connect(nats_url)
    try:
        await until(lambda: reports._client is not None)
        assert not await reports.publish(report), "no stream, nobody to store it"
        jetstream = client.jetstream()
        await jetstream.add_stream(name="TOVUK_USAGE", subjects=["tovuk.usage.>"])
        assert await reports.publish(report)
        stored = await jetstream.get_msg("TOVUK_USAGE", 1)
        assert (stored.subject, wire.UsageReport.FromString(stored.data or b"")) == (SUBJECT, report)
        await jetstream.delete_stream("TOVUK_USAGE")
        assert not await reports.publish(report)
    finally:
        await client.close()
        await reports.close()


async def test_reports_without_nats_are_not_taken_and_hold_nobody_up() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    reports = JetStreamReports(f"nats://127.0.0.1:{port}", "kv")
    async with asyncio.timeout(1):
        assert not await reports.publish(wire.UsageReport())
    async with asyncio.timeout(2):
        await reports.close()


async def test_notices_hurry_a_process_and_make_it_forget_refusals(
    metering: ScriptedMetering, server: RunningServer, channel: Channel, nats_url: str
) -> None:
    notices, told = Notices(), Notices()
    await notices.connect(nats_url)
    await told.connect(nats_url)
    process = MeteredProcess(service="kv", channel=channel, nats_url=nats_url, notices=told)
    await process.start([ScriptedStore()])
    try:
        await until(lambda: bool(metering.synced) and told.connected and notices.connected)
        # More heartbeats than the clock asks for.
        async with asyncio.timeout(20):
            while True:
                heard = len(metering.synced)
                for _ in range(5):
                    notices.publish("tovuk.metering.sync")
                    await asyncio.sleep(0.05)
                if len(metering.synced) >= heard + 3:
                    break
        metering.acquires.extend([refused(), granted(7, 1)])
        with pytest.raises(UsageCapReached):
            await process.meters.acquire(0, ACCOUNT, WRITES)
        process.meters._refusals[0, ACCOUNT, WRITES].until += 60_000
        await until(lambda: not process.meters._refusals, lambda: notices.publish(f"tovuk.changed.caps.{ACCOUNT}", b""))
        assert (await process.meters.acquire(0, ACCOUNT, WRITES)).id == 7
    finally:
        await process.close()
        await told.close()
        await notices.close()
