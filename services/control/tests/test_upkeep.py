import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tovuk.metering.v1 import metering_pb2 as wire
from tovuk.metering.v1 import metering_pb2_grpc as grpc_wire
from tovuk_control import upkeep as upkeep_module
from tovuk_control.clients.metering import MeteringClient
from tovuk_control.errors import InvalidPlan, ReservationNotFound, ServiceNotFound
from tovuk_control.limits import SERVICE_UNDO_MS, TOKEN_REMAINS_MS
from tovuk_control.project.account import Accounts
from tovuk_control.project.activity import Activity
from tovuk_control.project.changes import Publish
from tovuk_control.project.registry import Registry
from tovuk_control.project.service import Services
from tovuk_control.project.shards import Shards
from tovuk_control.project.token import Tokens
from tovuk_control.store.accounts import Account, posted_plans
from tovuk_control.upkeep import Upkeep
from tovuk_kit.client import Channel
from tovuk_kit.clock import FakeClock
from tovuk_kit.database import Database
from tovuk_kit.errors import StoreUnavailable
from tovuk_kit.ids import new_id
from tovuk_kit.server import start_server

KEY = "an internal key of tests"


class Ledger(grpc_wire.UsageServicer):
    """Metering's end of the wire: remembers the plans it was told, and may be made to fail."""

    def __init__(self) -> None:
        self.plans: dict[str, tuple[str, int]] = {}
        self.attempts: asyncio.Queue[str] = asyncio.Queue()
        self.away = False
        self.refused: set[str] = set()
        self.meanwhile: Callable[[], Awaitable[object]] | None = None
        self.told = asyncio.Event()

    async def SetPlan(self, request: Any, context: Any) -> Any:  # noqa: N802 the wire names it
        self.attempts.put_nowait(request.account_id)
        if self.away:
            raise StoreUnavailable
        if request.account_id in self.refused:
            raise InvalidPlan
        if request.revision > self.plans.get(request.account_id, ("", 0))[1]:
            self.plans[request.account_id] = (request.plan, request.revision)
        if self.meanwhile is not None:
            await self.meanwhile()
        self.told.set()
        return wire.SetPlanReply()


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest_asyncio.fixture
async def metering(ledger: Ledger, tmp_path: Path) -> AsyncIterator[MeteringClient]:
    server = await start_server(
        f"unix:{tmp_path}/metering.sock",
        internal_key=KEY,
        services=[partial(grpc_wire.add_UsageServicer_to_server, ledger)],
    )
    channel = Channel(server.target, KEY, "metering")
    yield MeteringClient(channel)
    await channel.close()
    await server.stop()


@pytest.fixture
def upkeep(database: Database, clock: FakeClock, metering: MeteringClient, publish: Publish) -> Upkeep:
    return Upkeep(database, clock, metering, publish)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Background work that does not pause, so that no test waits for wall time."""
    for name in ("SWEEP_S", "RETRY_FIRST_S", "RETRY_LAST_S"):
        monkeypatch.setattr(upkeep_module, name, 0.001)


async def test_a_plan_is_told_once_and_then_forgotten(
    upkeep: Upkeep, ledger: Ledger, accounts: Accounts, database: Database, ada: Account
) -> None:
    await accounts.set_plan(ada.id, "pro")
    assert await upkeep.deliver_plans()
    assert ledger.plans == {ada.id: ("pro", 2)}
    assert await upkeep.deliver_plans()
    assert ledger.attempts.qsize() == 1
    assert await database.read(lambda tx: posted_plans(tx, "", 10)) == []


async def test_a_plan_waits_while_metering_is_away(
    upkeep: Upkeep, ledger: Ledger, accounts: Accounts, ada: Account, bob: Account
) -> None:
    ledger.away = True
    assert not await upkeep.deliver_plans()
    assert ledger.attempts.qsize() == 1
    ledger.away = False
    assert await upkeep.deliver_plans()
    assert ledger.plans == {ada.id: ("free", 1), bob.id: ("pro", 1)}


async def test_a_plan_metering_refuses_holds_up_no_other(
    upkeep: Upkeep, ledger: Ledger, accounts: Accounts, ada: Account, bob: Account
) -> None:
    ledger.refused = {min(ada.id, bob.id)}
    assert not await upkeep.deliver_plans()
    assert set(ledger.plans) == {max(ada.id, bob.id)}
    ledger.refused = set()
    assert await upkeep.deliver_plans()
    assert set(ledger.plans) == {ada.id, bob.id}


async def test_many_accounts_are_all_told(upkeep: Upkeep, ledger: Ledger, accounts: Accounts) -> None:
    ids = {(await accounts.create(f"user-{number}", "", "free"))[0].id for number in range(101)}
    ledger.refused = set(sorted(ids)[:100])
    assert not await upkeep.deliver_plans()
    assert len(ledger.plans) == 1


async def test_a_plan_changed_while_its_older_revision_is_told_is_told_too(
    upkeep: Upkeep, ledger: Ledger, accounts: Accounts, ada: Account
) -> None:
    ledger.meanwhile = lambda: accounts.set_plan(ada.id, "pro")
    await upkeep.deliver_plans()
    await upkeep.deliver_plans()
    assert ledger.plans == {ada.id: ("pro", 2)}


async def test_in_the_background_a_posted_plan_goes_out_at_once(
    upkeep: Upkeep, ledger: Ledger, accounts: Accounts, ada: Account
) -> None:
    upkeep.start()
    async with asyncio.timeout(20):
        await ledger.told.wait()
        ledger.told.clear()
        await accounts.set_plan(ada.id, "pro")
        upkeep.posted()
        await ledger.told.wait()
    await upkeep.close()
    assert ledger.plans == {ada.id: ("pro", 2)}


async def test_in_the_background_delivery_is_tried_until_metering_is_back(
    upkeep: Upkeep, hasty: None, ledger: Ledger, ada: Account
) -> None:
    ledger.away = True
    upkeep.start()
    async with asyncio.timeout(20):
        for _ in range(5):
            await ledger.attempts.get()
        ledger.away = False
        await ledger.told.wait()
    await upkeep.close()
    assert ledger.plans == {ada.id: ("free", 1)}


async def test_a_service_deleted_72_hours_ago_is_purged_with_all_it_had(
    upkeep: Upkeep,
    services: Services,
    registry: Registry,
    tokens: Tokens,
    activity: Activity,
    database: Database,
    ada: Account,
    clock: FakeClock,
) -> None:
    service = await services.create(ada.id, "api", "rust_worker", {})
    kept = await services.create(ada.id, "kept", "rust_worker", {})
    resource_id = new_id("kv")
    await registry.reserve(ada.id, service.id, "kv_namespace", resource_id, "CACHE")
    await registry.reserve(ada.id, kept.id, "kv_namespace", new_id("kv"), "CACHE")
    await tokens.create(ada.id, "runtime", service_ref="api")
    await services.delete(ada.id, "api")
    clock.advance(SERVICE_UNDO_MS - 1)
    await upkeep.sweep()
    assert await registry.tombstones("kv") == []
    clock.advance(1)
    await upkeep.sweep()
    assert await registry.tombstones("kv") == [service.id]
    with pytest.raises(ServiceNotFound):
        await services.restore(ada.id, service.id)
    with pytest.raises(ReservationNotFound):
        await registry.confirm(service.id, "kv_namespace", resource_id)
    left = (
        "SELECT id FROM services WHERE id = ? UNION ALL SELECT id FROM resources WHERE service_id = ? "
        "UNION ALL SELECT id FROM tokens WHERE service_id = ?"
    )
    assert await database.read(lambda tx: tx.execute(left, (service.id,) * 3)) == []
    assert (await services.resolve(ada.id, "kept")).id == kept.id
    entries, _ = await activity.page(ada.id, 1, "")
    assert (entries[0].kind, entries[0].service_id) == ("service_purged", service.id)


async def test_a_purged_services_databases_leave_a_tombstone_at_their_shard(
    upkeep: Upkeep, services: Services, registry: Registry, shards: Shards, shard: str, ada: Account, clock: FakeClock
) -> None:
    service = await services.create(ada.id, "api", "rust_worker", {})
    await registry.reserve(ada.id, service.id, "sqlite_database", new_id("sqlite"), "DB", shard=shard)
    await services.delete(ada.id, "api")
    clock.advance(SERVICE_UNDO_MS)
    await upkeep.sweep()
    assert await registry.tombstones(f"sqlite/{shard}") == [service.id]
    assert await registry.tombstones("sqlite/shard-2") == []
    assert await shards.placements(service.id) == []
    await registry.acknowledge(f"sqlite/{shard}", service.id)
    assert await registry.tombstones(f"sqlite/{shard}") == []


async def test_a_tombstone_stands_until_its_owner_acknowledges_it(
    upkeep: Upkeep, services: Services, registry: Registry, ada: Account, clock: FakeClock
) -> None:
    ids = []
    for number in range(3):
        service = await services.create(ada.id, f"s-{number}", "rust_worker", {})
        await services.delete(ada.id, service.id)
        ids.append(service.id)
        clock.advance(SERVICE_UNDO_MS)
        await upkeep.sweep()
    assert await registry.tombstones("kv") == ids
    for _ in range(2):
        await registry.acknowledge("kv", ids[1])
    assert await registry.tombstones("kv") == [ids[0], ids[2]]


async def test_two_instances_that_sweep_at_once_purge_once(
    upkeep: Upkeep,
    second_database: Database,
    services: Services,
    activity: Activity,
    metering: MeteringClient,
    publish: Publish,
    ada: Account,
    clock: FakeClock,
) -> None:
    for number in range(20):
        await services.create(ada.id, f"s-{number}", "rust_worker", {})
        await services.delete(ada.id, f"s-{number}")
    clock.advance(SERVICE_UNDO_MS)
    await asyncio.gather(upkeep.sweep(), Upkeep(second_database, clock, metering, publish).sweep())
    entries, _ = await activity.page(ada.id, 100, "")
    assert [entry.kind for entry in entries].count("service_purged") == 20


async def test_of_a_restore_at_the_last_moment_and_a_sweep_one_wins_whole(
    upkeep: Upkeep, services: Services, second_services: Services, registry: Registry, ada: Account, clock: FakeClock
) -> None:
    service = await services.create(ada.id, "api", "rust_worker", {})
    await services.delete(ada.id, "api")
    clock.advance(SERVICE_UNDO_MS - 1)
    restored, _ = await asyncio.gather(second_services.restore(ada.id, service.id), upkeep.sweep())
    assert restored == service
    assert await registry.tombstones("kv") == []


async def test_ended_tokens_are_forgotten_after_a_while(
    upkeep: Upkeep, tokens: Tokens, database: Database, ada: Account, clock: FakeClock
) -> None:
    revoked, _ = await tokens.create(ada.id, "user")
    await tokens.create(ada.id, "user", expires_in_seconds=1)
    living, _ = await tokens.create(ada.id, "user", expires_in_seconds=10**8)
    await tokens.revoke(ada.id, revoked.id)
    clock.advance(TOKEN_REMAINS_MS)
    await upkeep.sweep()
    assert (await tokens.revoke(ada.id, revoked.id)).id == revoked.id
    clock.advance(1_001)
    await upkeep.sweep()
    rows = await database.read(
        lambda tx: tx.execute("SELECT id FROM tokens WHERE expires_at_ms <> 0 OR revoked_at_ms <> 0")
    )
    assert rows == [(living.id,)]


async def test_the_sweep_runs_in_the_background_and_owners_are_told(
    database: Database,
    clock: FakeClock,
    metering: MeteringClient,
    hasty: None,
    services: Services,
    registry: Registry,
    ada: Account,
) -> None:
    service = await services.create(ada.id, "api", "rust_worker", {})
    await services.delete(ada.id, "api")
    clock.advance(SERVICE_UNDO_MS)
    subjects: asyncio.Queue[str] = asyncio.Queue()
    upkeep = Upkeep(database, clock, metering, lambda subject, payload: subjects.put_nowait(subject))
    upkeep.start()
    async with asyncio.timeout(20):
        assert await subjects.get() == f"tovuk.changed.services.{ada.id}"
    await upkeep.close()
    assert await registry.tombstones("kv") == [service.id]
