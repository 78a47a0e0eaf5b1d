"""Both gRPC services, in process over a Unix socket."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tovuk.metering.v1 import metering_pb2 as wire
from tovuk.metering.v1.metering_pb2_grpc import LeasesStub, UsageStub
from tovuk_kit.client import Channel
from tovuk_kit.clock import FakeClock
from tovuk_kit.errors import RemoteError
from tovuk_kit.meters import METER_NAMES
from tovuk_kit.server import start_server
from tovuk_metering.api import registrations
from tovuk_metering.limits import HOLDER_VALID_MS, WAIT_MAX_MS
from tovuk_metering.meter.turn import Turns

KEY = "internal-key-of-the-tests"
ACCOUNT = "account_1"
HOLDER = wire.Holder(store="kv/one/0", epoch=1)
CAP = {"account_id": ACCOUNT, "meter": "kv_writes", "period": "day", "hard_stop": True, "notify_at_percent": 80}


@pytest_asyncio.fixture
async def channel(turns: Turns, tmp_path: Path) -> AsyncIterator[Channel]:
    server = await start_server(f"unix:{tmp_path}/m.sock", internal_key=KEY, services=registrations(turns))
    channel = Channel(server.target, KEY, "metering")
    yield channel
    await channel.close()
    await server.stop()


@pytest.fixture
def usage(channel: Channel) -> UsageStub:
    return UsageStub(channel.grpc)


@pytest.fixture
def leases(channel: Channel) -> LeasesStub:
    return LeasesStub(channel.grpc)


async def told_plan(channel: Channel, usage: UsageStub, plan: str = "self_hosted", revision: int = 1) -> None:
    await channel.unary(
        usage.SetPlan, wire.SetPlanRequest(account_id=ACCOUNT, plan=plan, revision=revision), retry=False
    )


async def acquire(channel: Channel, leases: LeasesStub, meter: str = "kv_writes", want: int = 1) -> wire.AcquireReply:
    request = wire.AcquireRequest(holder=HOLDER, account_id=ACCOUNT, meter=meter, want=want)
    return await channel.unary(leases.Acquire, request, retry=False)


@pytest.mark.proves("CAP-001")
async def test_a_cap_of_three_grants_three_writes_and_refuses_the_fourth(
    channel: Channel, usage: UsageStub, leases: LeasesStub
) -> None:
    await told_plan(channel, usage)
    stored = await channel.unary(usage.PutCap, wire.PutCapRequest(cap_value=3, **CAP), retry=False)
    assert (stored.meter, stored.period, stored.cap_value, stored.hard_stop) == ("kv_writes", "day", 3, True)
    granted = await acquire(channel, leases, want=3)
    assert granted.granted.granted == 3
    assert granted.granted.ends_in_ms == 16 * 3_600_000
    repeated = await acquire(channel, leases, want=3)
    assert repeated.granted == granted.granted
    state = granted.granted
    more = await channel.unary(
        leases.Acquire,
        wire.AcquireRequest(
            holder=HOLDER,
            account_id=ACCOUNT,
            meter="kv_writes",
            lease_id=state.lease_id,
            version=state.version,
            want=4,
        ),
        retry=False,
    )
    assert (more.refused.plan_limit, more.refused.period, more.refused.limit) == (False, "day", 3)
    assert more.refused.resets_in_ms == 16 * 3_600_000


async def test_a_heartbeat_is_valid_for_three_seconds(channel: Channel, leases: LeasesStub) -> None:
    reply = await channel.unary(leases.Sync, wire.SyncRequest(holders=[HOLDER]), retry=False)
    assert reply.valid_ms == HOLDER_VALID_MS
    assert not reply.lost
    assert not reply.dead


async def test_an_account_control_has_not_told_of_is_asked_to_come_again(channel: Channel, leases: LeasesStub) -> None:
    reply = await acquire(channel, leases)
    assert reply.wait.retry_after_ms == WAIT_MAX_MS


@pytest.mark.proves("CAP-015", "RES-074")
async def test_usage_shows_every_meter_the_caps_the_limits_and_the_estimate(
    channel: Channel, usage: UsageStub, clock: FakeClock
) -> None:
    await told_plan(channel, usage, "pro")
    await channel.unary(usage.PutCap, wire.PutCapRequest(cap_value=7, **CAP), retry=False)
    reply = await channel.unary(usage.GetUsage, wire.GetUsageRequest(account_id=ACCOUNT), retry=True)
    assert set(reply.day) == set(reply.month) == set(METER_NAMES)
    assert set(reply.day.values()) == {0}
    assert reply.plan == "pro"
    assert [(cap.cap.meter, cap.used, cap.remaining) for cap in reply.caps] == [("kv_writes", 0, 7)]
    assert [(w.meter, w.period, w.limit, w.plan_limit) for w in reply.windows] == [("kv_writes", "day", 7, False)]
    assert json.loads(reply.limits_json)["projects"] == 500
    estimate = json.loads(reply.billing_estimate_json)
    assert estimate["estimatedMonthlyTotalUsdMicros"] == 5_000_000
    assert [line["meter"] for line in estimate["lineItems"]] == list(METER_NAMES)
    assert (reply.as_of_ms, reply.delayed) == (clock.wall_ms(), False)


async def test_a_cap_is_listed_and_lifted_once(channel: Channel, usage: UsageStub, told: list[str]) -> None:
    await told_plan(channel, usage)
    await channel.unary(usage.PutCap, wire.PutCapRequest(cap_value=7, **CAP), retry=False)
    listed = await channel.unary(usage.ListCaps, wire.ListCapsRequest(account_id=ACCOUNT), retry=True)
    assert [cap.cap.cap_value for cap in listed.caps] == [7]
    told.clear()
    lift = wire.DeleteCapRequest(account_id=ACCOUNT, meter="kv_writes", period="day")
    assert (await channel.unary(usage.DeleteCap, lift, retry=False)).deleted
    assert set(told) == {f"tovuk.changed.caps.{ACCOUNT}", "tovuk.metering.sync"}
    with pytest.raises(RemoteError) as caught:
        await channel.unary(usage.DeleteCap, lift, retry=False)
    assert caught.value.code == "cap_not_found"
    assert caught.value.message == "There is no day cap on kv_writes."


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"meter": "kv_reeds"}, "invalid_metric"),
        ({"period": "hour"}, "invalid_period"),
        ({"cap_value": 2**53}, "invalid_cap_value"),
        ({"notify_at_percent": 0}, "invalid_notify_threshold"),
        ({"notify_at_percent": 101}, "invalid_notify_threshold"),
    ],
)
async def test_a_cap_that_is_not_valid_is_refused(
    channel: Channel, usage: UsageStub, wrong: dict[str, object], code: str
) -> None:
    await told_plan(channel, usage)
    with pytest.raises(RemoteError) as caught:
        await channel.unary(usage.PutCap, wire.PutCapRequest(**{**CAP, "cap_value": 1, **wrong}), retry=False)
    assert caught.value.code == code
    assert not (await channel.unary(usage.ListCaps, wire.ListCapsRequest(account_id=ACCOUNT), retry=True)).caps


@pytest.mark.parametrize("units", [0, 2**53 - 1])
async def test_the_smallest_and_the_largest_cap_are_taken(channel: Channel, usage: UsageStub, units: int) -> None:
    await told_plan(channel, usage)
    stored = await channel.unary(usage.PutCap, wire.PutCapRequest(cap_value=units, **CAP), retry=False)
    assert stored.cap_value == units


async def test_an_older_revision_of_the_plan_changes_nothing(channel: Channel, usage: UsageStub) -> None:
    await told_plan(channel, usage, "pro", revision=3)
    await told_plan(channel, usage, "free", revision=2)
    reply = await channel.unary(usage.GetUsage, wire.GetUsageRequest(account_id=ACCOUNT), retry=True)
    assert reply.plan == "pro"
    with pytest.raises(RemoteError) as caught:
        await told_plan(channel, usage, "gold", revision=4)
    assert caught.value.code == "invalid_plan"


async def test_the_catalogue_is_the_price_books(channel: Channel, usage: UsageStub) -> None:
    reply = await channel.unary(usage.GetCatalogue, wire.GetCatalogueRequest(), retry=True)
    products, plans = json.loads(reply.products_json), json.loads(reply.plans_json)
    assert [plan["key"] for plan in plans] == ["free", "pro", "self_hosted"]
    kv = next(product for product in products if product["key"] == "kv")
    assert kv["meters"] == ["kv_reads", "kv_writes", "kv_deletes", "kv_lists", "kv_storage_bytes"]
    assert kv["meter_details"][0]["unit"] == "read"
