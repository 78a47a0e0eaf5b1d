"""The rounds, against a real JetStream and a control that fails at first."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import nats
import pytest
import pytest_asyncio

from tovuk.control.v1.control_pb2 import ActivityEntry, RecordActivityReply
from tovuk.control.v1.control_pb2_grpc import AccountsServicer, add_AccountsServicer_to_server
from tovuk.metering.v1 import metering_pb2 as wire
from tovuk_kit.client import Channel
from tovuk_kit.clock import FakeClock
from tovuk_kit.errors import StoreUnavailable
from tovuk_kit.server import start_server
from tovuk_metering import upkeep
from tovuk_metering.clients.control import ControlClient
from tovuk_metering.clients.usage_stream import STREAM, UsageStream
from tovuk_metering.limits import HOLDER_GIVEN_UP_MS
from tovuk_metering.meter import limiting, usage
from tovuk_metering.meter.turn import Turns
from tovuk_metering.store import notices
from tovuk_metering.store.caps import Cap
from tovuk_metering.upkeep import Upkeep

KEY = "internal-key-of-the-tests"


class Control(AccountsServicer):
    """Control's port for activity, out of order for its first calls."""

    def __init__(self) -> None:
        self.failures = 2
        self.entries: dict[str, ActivityEntry] = {}

    async def RecordActivity(self, request: ActivityEntry, context: Any) -> RecordActivityReply:  # noqa: N802
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable
        self.entries[request.id] = request
        return RecordActivityReply()


@pytest.fixture
def control() -> Control:
    return Control()


@pytest_asyncio.fixture
async def client(control: Control, tmp_path: Path) -> AsyncIterator[ControlClient]:
    server = await start_server(
        f"unix:{tmp_path}/c.sock", internal_key=KEY, services=[partial(add_AccountsServicer_to_server, control)]
    )
    channel = Channel(server.target, KEY, "control")
    yield ControlClient(channel)
    await channel.close()
    await server.stop()


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await holds():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def cap(turns: Turns, units: int) -> None:
    await turns.write(lambda turn: limiting.put_cap(turn, "account_1", Cap("kv_writes", "day", units, True, 80, 0)))


async def test_a_notice_reaches_control_once_it_answers_and_is_kept_no_longer_to_send(
    turns: Turns, first: Any, client: ControlClient, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "PAUSE_S", 0.01)
    await cap(turns, 5)
    await first.acquire("kv_writes", want=5)
    await first.use("kv_writes", 4)
    rounds = Upkeep(turns, client, None)
    rounds.start()

    async def delivered() -> bool:
        return not await turns.read(lambda turn: notices.undelivered(turn.tx, 1))

    await until(delivered)
    await rounds.close()
    (entry,) = control.entries.values()
    assert (entry.account_id, entry.kind) == ("account_1", "cap_notified")
    assert entry.at_ms == 1_800_000_000_000
    assert '"limit":5' in entry.details_json


async def test_reports_become_bills_also_after_nats_was_wiped(
    turns: Turns, first: Any, client: ControlClient, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "PAUSE_S", 0.01)
    lease_id = (await first.acquire("kv_writes")).lease_id
    rounds = Upkeep(turns, client, UsageStream(nats_url))
    rounds.start()
    publisher = await nats.connect(nats_url)

    async def reported(units: int) -> bool:
        """Publish as a holder does: again, until metering has applied it."""
        line = wire.UsageLine(service_id="service_1", resource_id="kv_1", units=units)
        lease = wire.LeaseTotals(lease_id=lease_id, epoch=1, seq=units, lines=[line])
        report = wire.UsageReport(store="kv/one/0", leases=[lease])
        await publisher.publish("tovuk.usage.kv", report.SerializeToString())
        found = await turns.read(lambda turn: usage.usage_of(turn, "account_1"))
        return found.day["kv_writes"] == units

    await until(partial(reported, 3))
    beyond = wire.LeaseTotals(lease_id=2**64 - 1, epoch=2**64 - 1, seq=2**64 - 1)
    level = wire.LevelTotals(account_id="account_1", meter="kv_storage_bytes", seq=2**64 - 1, bytes=2**64 - 1)
    absurd = wire.UsageReport(store="kv/one/0", leases=[beyond], levels=[level])
    await publisher.publish("tovuk.usage.kv", absurd.SerializeToString())
    await until(partial(reported, 4))
    await publisher.jsm().delete_stream(STREAM)
    await until(partial(reported, 5))
    await publisher.close()
    await rounds.close()


async def test_the_silent_are_given_up_and_those_who_speak_are_not(
    turns: Turns, first: Any, second: Any, client: ControlClient, clock: FakeClock
) -> None:
    clock.advance(HOLDER_GIVEN_UP_MS)
    await second.beat()
    await Upkeep(turns, client, None).give_up_silent()
    assert not (await second.beat()).lost
    assert (await first.beat()).lost == [first.holder]


async def test_the_past_is_removed_and_the_present_stays(
    turns: Turns, first: Any, client: ControlClient, clock: FakeClock
) -> None:
    await first.acquire("kv_writes")
    await first.use("kv_writes", 2)
    clock.advance(41 * 86_400_000)
    await first.beat()
    await first.acquire("kv_reads")
    await Upkeep(turns, client, None).prune()
    held = await turns.read(lambda turn: turn.tx.execute("SELECT meter FROM leases"))
    assert held == [("kv_reads",)]
    billed = await turns.read(lambda turn: turn.tx.execute("SELECT units FROM ledger"))
    assert billed == [(2,)]
    clock.advance(400 * 86_400_000)
    await Upkeep(turns, client, None).prune()
    assert await turns.read(lambda turn: turn.tx.execute("SELECT units FROM ledger")) == []
