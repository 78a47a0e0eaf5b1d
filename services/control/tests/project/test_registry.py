import asyncio

import pytest

from tovuk_control.errors import (
    InvalidRequest,
    InvalidResourceName,
    ReservationNotFound,
    ResourceLimitReached,
    ResourceNameTaken,
    ResourcePlanLimitReached,
    ServiceNotFound,
)
from tovuk_control.limits import SERVICE_RESOURCES_MAX
from tovuk_control.project.account import Accounts
from tovuk_control.project.activity import Activity
from tovuk_control.project.registry import COUNTED_KINDS, SHARDED_KIND, Registry
from tovuk_control.project.service import Services
from tovuk_control.store import resources as table
from tovuk_control.store.accounts import Account
from tovuk_control.store.resources import Resource
from tovuk_control.store.services import Service
from tovuk_kit.clock import FakeClock
from tovuk_kit.database import Database, Tx
from tovuk_kit.ids import new_id

KV = "kv_namespace"


@pytest.fixture
async def api(services: Services, ada: Account) -> Service:
    return await services.create(ada.id, "api", "rust_worker", {})


async def fill(database: Database, service: Service, count: int) -> None:
    """Claim resources of all counted kinds straight in the table."""

    def work(tx: Tx) -> None:
        for number in range(count):
            kind = COUNTED_KINDS[number % len(COUNTED_KINDS)]
            name = f"N{number}"
            table.insert(tx, Resource(new_id("x"), service.account_id, service.id, kind, name, name, 0))

    await database.write(work)


async def test_a_confirmed_resource_counts_and_is_recorded(
    registry: Registry, services: Services, activity: Activity, api: Service
) -> None:
    resource_id = new_id("kv")
    await registry.reserve(api.account_id, api.id, KV, resource_id, "CACHE")
    assert (await services.resolve(api.account_id, api.id)).resource_counts == {}
    await registry.confirm(api.id, KV, resource_id)
    assert (await services.resolve(api.account_id, api.id)).resource_counts == {KV: 1}
    await registry.release(api.id, KV, resource_id)
    assert (await services.resolve(api.account_id, api.id)).resource_counts == {}
    entries, _ = await activity.page(api.account_id, 2, "")
    assert [(entry.kind, entry.service_id) for entry in entries] == [
        ("namespace_deleted", api.id),
        ("namespace_created", api.id),
    ]
    assert entries[0].details_json == f'{{"id": "{resource_id}", "name": "CACHE"}}'


async def test_every_step_repeated_is_the_same_step(
    registry: Registry, services: Services, activity: Activity, api: Service
) -> None:
    resource_id = new_id("kv")
    for _ in range(2):
        await registry.reserve(api.account_id, api.id, KV, resource_id, "CACHE")
    for _ in range(2):
        await registry.confirm(api.id, KV, resource_id)
    await registry.reserve(api.account_id, api.id, KV, resource_id, "CACHE")
    assert (await services.resolve(api.account_id, api.id)).resource_counts == {KV: 1}
    for _ in range(2):
        await registry.release(api.id, KV, resource_id)
    entries, _ = await activity.page(api.account_id, 3, "")
    assert [entry.kind for entry in entries] == ["namespace_deleted", "namespace_created", "service_created"]


async def test_a_released_claim_that_never_was_a_resource_leaves_no_entry(
    registry: Registry, activity: Activity, api: Service
) -> None:
    resource_id = new_id("kv")
    await registry.reserve(api.account_id, api.id, KV, resource_id, "CACHE")
    await registry.release(api.id, KV, resource_id)
    entries, _ = await activity.page(api.account_id, 1, "")
    assert entries[0].kind == "service_created"


async def test_a_released_claim_cannot_be_confirmed(registry: Registry, api: Service) -> None:
    resource_id = new_id("kv")
    await registry.reserve(api.account_id, api.id, KV, resource_id, "CACHE")
    await registry.release(api.id, KV, resource_id)
    with pytest.raises(ReservationNotFound):
        await registry.confirm(api.id, KV, resource_id)


async def test_of_a_simultaneous_confirm_and_release_nothing_is_half_done(
    registry: Registry, second_registry: Registry, services: Services, activity: Activity, api: Service
) -> None:
    for number in range(10):
        resource_id = new_id("kv")
        await registry.reserve(api.account_id, api.id, KV, resource_id, f"N{number}")
        results = await asyncio.gather(
            registry.confirm(api.id, KV, resource_id),
            second_registry.release(api.id, KV, resource_id),
            return_exceptions=True,
        )
        entries, _ = await activity.page(api.account_id, 2, "")
        kinds = [entry.kind for entry in entries if resource_id in entry.details_json]
        if results[0] is None:
            assert kinds == ["namespace_deleted", "namespace_created"]
        else:
            assert isinstance(results[0], ReservationNotFound)
            assert kinds == []
    assert (await services.resolve(api.account_id, api.id)).resource_counts == {}


async def test_an_id_has_one_claim(registry: Registry, api: Service) -> None:
    resource_id = new_id("kv")
    await registry.reserve(api.account_id, api.id, KV, resource_id, "CACHE")
    for kind, name in ((KV, "OTHER"), ("queue", "CACHE")):
        with pytest.raises(InvalidRequest):
            await registry.reserve(api.account_id, api.id, kind, resource_id, name)
    with pytest.raises(ReservationNotFound):
        await registry.confirm(api.id, "queue", resource_id)
    await registry.release(api.id, "queue", resource_id)
    await registry.confirm(api.id, KV, resource_id)


@pytest.mark.proves("RES-092")
@pytest.mark.parametrize(("first", "second"), [("jobs", "JOBS"), ("my-jobs", "my_jobs"), ("Room", "Room")])
async def test_names_of_one_environment_suffix_are_one_name(
    registry: Registry, api: Service, first: str, second: str
) -> None:
    await registry.reserve(api.account_id, api.id, "queue", new_id("queue"), first)
    with pytest.raises(ResourceNameTaken) as refused:
        await registry.reserve(api.account_id, api.id, "queue", new_id("queue"), second)
    assert refused.value.params == {"kind": "queue"}
    await registry.reserve(api.account_id, api.id, KV, new_id("kv"), second)


async def test_a_released_name_is_free(registry: Registry, api: Service) -> None:
    resource_id = new_id("kv")
    await registry.reserve(api.account_id, api.id, KV, resource_id, "CACHE")
    await registry.release(api.id, KV, resource_id)
    await registry.reserve(api.account_id, api.id, KV, new_id("kv"), "CACHE")


async def test_one_of_many_simultaneous_claims_of_a_name_wins(
    registry: Registry, second_registry: Registry, api: Service
) -> None:
    results = await asyncio.gather(
        *(
            instance.reserve(api.account_id, api.id, KV, new_id("kv"), "CACHE")
            for instance in (registry, second_registry) * 5
        ),
        return_exceptions=True,
    )
    assert results.count(None) == 1
    assert sum(isinstance(result, ResourceNameTaken) for result in results) == 9


async def test_simultaneous_repeats_of_one_claim_all_succeed(
    registry: Registry, second_registry: Registry, api: Service
) -> None:
    resource_id = new_id("kv")
    await asyncio.gather(
        *(
            instance.reserve(api.account_id, api.id, KV, resource_id, "CACHE")
            for instance in (registry, second_registry) * 5
        )
    )


@pytest.mark.proves("RES-066", "RES-067")
async def test_the_5000th_resource_is_taken_and_the_5001st_refused_also_in_parallel(
    registry: Registry, second_registry: Registry, database: Database, accounts: Accounts, api: Service, shard: str
) -> None:
    where = {SHARDED_KIND: shard}
    await accounts.set_plan(api.account_id, "pro")
    await fill(database, api, SERVICE_RESOURCES_MAX - 1)
    results = await asyncio.gather(
        *(
            instance.reserve(api.account_id, api.id, kind, new_id("x"), f"new{number}", shard=where.get(kind, ""))
            for number, (instance, kind) in enumerate(
                zip((registry, second_registry) * 5, COUNTED_KINDS * 2, strict=True)
            )
        ),
        return_exceptions=True,
    )
    assert results.count(None) == 1
    refused = [result for result in results if isinstance(result, ResourceLimitReached)]
    assert len(refused) == 9
    assert refused[0].params == {"limit": "5000"}


async def test_cron_triggers_do_not_count(
    registry: Registry, database: Database, services: Services, api: Service
) -> None:
    for number in range(2):
        await registry.reserve(api.account_id, api.id, "cron_trigger", new_id("cron"), f"nightly{number}")
    await fill(database, api, SERVICE_RESOURCES_MAX)
    await registry.reserve(api.account_id, api.id, "cron_trigger", new_id("cron"), "weekly")
    other = await services.create(api.account_id, "other", "rust_worker", {})
    await registry.reserve(api.account_id, other.id, KV, new_id("kv"), "CACHE")


async def test_the_free_plan_has_ten_databases_in_all_its_living_services(
    registry: Registry, second_registry: Registry, services: Services, accounts: Accounts, api: Service, shard: str
) -> None:
    other = await services.create(api.account_id, "other", "rust_worker", {})
    for number in range(9):
        await registry.reserve(api.account_id, api.id, "sqlite_database", new_id("sqlite"), f"DB{number}", shard=shard)
    results = await asyncio.gather(
        registry.reserve(api.account_id, api.id, "sqlite_database", new_id("sqlite"), "LAST", shard=shard),
        second_registry.reserve(api.account_id, other.id, "sqlite_database", new_id("sqlite"), "LAST", shard=shard),
        return_exceptions=True,
    )
    refused = [result for result in results if isinstance(result, ResourcePlanLimitReached)]
    assert results.count(None) == 1
    assert [error.params for error in refused] == [{"plan": "free", "limit": "10", "kind": "sqlite_database"}]
    await services.delete(api.account_id, api.id)
    await registry.reserve(api.account_id, other.id, "sqlite_database", new_id("sqlite"), "NOW", shard=shard)
    await accounts.set_plan(api.account_id, "pro")
    for number in range(10):
        await registry.reserve(
            api.account_id, other.id, "sqlite_database", new_id("sqlite"), f"MORE{number}", shard=shard
        )


@pytest.mark.parametrize(
    "name",
    ["", "7UP", "_x", "-x", "a b", "a/b", "ä", "a\n", "x" * 64, "namespaces", "databases", "kv_00000000000000000000"],
)
async def test_a_name_outside_the_grammar_is_refused(registry: Registry, api: Service, name: str) -> None:
    with pytest.raises(InvalidResourceName):
        await registry.reserve(api.account_id, api.id, KV, new_id("kv"), name)


async def test_a_name_of_63_characters_is_taken(registry: Registry, api: Service) -> None:
    await registry.reserve(api.account_id, api.id, KV, new_id("kv"), "a" + "B" * 61 + "-")


async def test_a_foreign_deleted_or_absent_service_has_no_resources(
    registry: Registry, services: Services, api: Service, bob: Account
) -> None:
    with pytest.raises(ServiceNotFound):
        await registry.reserve(bob.id, api.id, KV, new_id("kv"), "CACHE")
    await services.delete(api.account_id, api.id)
    with pytest.raises(ServiceNotFound):
        await registry.reserve(api.account_id, api.id, KV, new_id("kv"), "CACHE")
    with pytest.raises(ServiceNotFound):
        await registry.reserve(api.account_id, "service_00000000000000000000", KV, new_id("kv"), "CACHE")


async def test_an_unknown_kind_owner_or_id_is_refused(registry: Registry, api: Service) -> None:
    with pytest.raises(InvalidRequest):
        await registry.reserve(api.account_id, api.id, "table", new_id("kv"), "CACHE")
    with pytest.raises(InvalidRequest):
        await registry.reserve(api.account_id, api.id, KV, "CACHE", "CACHE")
    with pytest.raises(InvalidRequest):
        await registry.confirm(api.id, "", new_id("kv"))
    with pytest.raises(InvalidRequest):
        await registry.release(api.id, "", new_id("kv"))
    with pytest.raises(InvalidRequest):
        await registry.unsettled("")
    with pytest.raises(InvalidRequest):
        await registry.tombstones("nobody")
    with pytest.raises(InvalidRequest):
        await registry.acknowledge("nobody", api.id)


async def test_claims_older_than_a_minute_wait_for_their_owner_to_settle_them(
    registry: Registry, api: Service, clock: FakeClock
) -> None:
    ids = [new_id("kv") for _ in range(3)]
    for resource_id in ids:
        await registry.reserve(api.account_id, api.id, KV, resource_id, f"N{ids.index(resource_id)}")
        clock.advance(1)
    await registry.reserve(api.account_id, api.id, "queue", new_id("queue"), "jobs")
    await registry.confirm(api.id, KV, ids[1])
    clock.advance(59_996)
    assert await registry.unsettled(KV) == []
    clock.advance(1)
    assert [claim.id for claim in await registry.unsettled(KV)] == [ids[0]]
    clock.advance(2)
    assert [claim.id for claim in await registry.unsettled(KV)] == [ids[0], ids[2]]
    await registry.confirm(api.id, KV, ids[0])
    await registry.release(api.id, KV, ids[2])
    assert await registry.unsettled(KV) == []
