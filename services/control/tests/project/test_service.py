import asyncio
import re

import pytest

from tovuk_control.errors import (
    AccountNotFound,
    InvalidCapabilities,
    InvalidCursor,
    InvalidServiceKind,
    InvalidServiceName,
    ResourcePlanLimitReached,
    ServiceLimitReached,
    ServiceNameTaken,
    ServiceNotFound,
    ServiceNotRestorable,
)
from tovuk_control.limits import SERVICE_UNDO_MS, SERVICES_MAX
from tovuk_control.project.account import Accounts
from tovuk_control.project.activity import Activity
from tovuk_control.project.registry import Registry
from tovuk_control.project.service import Services
from tovuk_control.store import services as table
from tovuk_control.store.accounts import Account
from tovuk_control.store.services import Service
from tovuk_kit.capabilities import CAPABILITIES
from tovuk_kit.clock import FakeClock
from tovuk_kit.database import Database, Tx
from tovuk_kit.ids import new_id

FREE = ("sqlite", "object_storage", "kv", "state", "queue", "cron", "service_bindings", "secrets", "custom_domains")
FIXED = ("logs", "builds", "usage_caps", "billing", "support", "abuse")


async def fill(database: Database, account_id: str, count: int) -> None:
    """Give an account services straight in the table."""

    def work(tx: Tx) -> None:
        for number in range(count):
            table.insert(tx, Service(new_id("service"), account_id, f"s-{number}", "rust_worker", frozenset(), number))

    await database.write(work)


async def names(services: Services, account_id: str, *, deleted: bool = False) -> list[str]:
    page, _ = await services.page(account_id, deleted=deleted, cursor="")
    return [service.name for service in page]


async def test_a_new_service_is_found_by_id_and_by_name(services: Services, ada: Account, clock: FakeClock) -> None:
    service = await services.create(ada.id, "api", "rust_worker", {})
    assert re.fullmatch(r"service_[0-9a-f]{20}", service.id)
    assert service.created_at_ms == clock.wall_ms()
    assert await services.resolve(ada.id, service.id) == service
    assert await services.resolve(ada.id, "api") == service


async def test_foreign_deleted_and_absent_services_are_refused_alike(
    services: Services, ada: Account, bob: Account
) -> None:
    service = await services.create(ada.id, "api", "rust_worker", {})
    gone = await services.create(bob.id, "gone", "rust_worker", {})
    await services.delete(bob.id, gone.id)
    refusals = set()
    for ref in (
        service.id,
        "api",
        gone.id,
        "gone",
        "absent",
        "service_00000000000000000000",
        "",
        "../api",
        "a\0",
        "a" * 5000,
    ):
        with pytest.raises(ServiceNotFound) as refused:
            await services.resolve(bob.id, ref)
        refusals.add((refused.value.code, refused.value.message, tuple(refused.value.params)))
    assert len(refusals) == 1


@pytest.mark.parametrize("name", ["a", "7", "a-b", "x" * 48, "a--b"])
async def test_a_name_of_the_grammar_is_taken(services: Services, ada: Account, name: str) -> None:
    assert (await services.create(ada.id, name, "fullstack", {})).name == name


@pytest.mark.parametrize(
    "name", ["", "-a", "a-", "x" * 49, "Api", "a_b", "a.b", "ä", "a\n", "service_00000000000000000000"]
)
async def test_a_name_outside_the_grammar_is_refused(services: Services, ada: Account, name: str) -> None:
    with pytest.raises(InvalidServiceName):
        await services.create(ada.id, name, "rust_worker", {})


@pytest.mark.parametrize("kind", ["", "worker", "Rust_Worker"])
async def test_an_unknown_kind_is_refused(services: Services, ada: Account, kind: str) -> None:
    with pytest.raises(InvalidServiceKind):
        await services.create(ada.id, "api", kind, {})


@pytest.mark.parametrize(
    ("kind", "own"),
    [
        ("rust_worker", {"worker"}),
        ("static_frontend", {"static_frontend"}),
        ("fullstack", {"worker", "static_frontend"}),
    ],
)
async def test_capabilities_default_to_what_the_kind_has_and_all_free_ones(
    services: Services, ada: Account, kind: str, own: set[str]
) -> None:
    assert len(CAPABILITIES) == 17
    service = await services.create(ada.id, "api", kind, {})
    assert service.capabilities == own | set(FREE) | set(FIXED)


@pytest.mark.parametrize("capability", FREE)
async def test_each_free_capability_can_be_turned_off(services: Services, ada: Account, capability: str) -> None:
    service = await services.create(ada.id, "api", "rust_worker", {capability: False})
    assert set(CAPABILITIES) - (await services.resolve(ada.id, service.id)).capabilities == {
        capability,
        "static_frontend",
    }


@pytest.mark.parametrize(
    ("kind", "capabilities"),
    [
        ("rust_worker", {"kvs": True}),
        ("rust_worker", {"": False}),
        ("rust_worker", {"worker": False}),
        ("rust_worker", {"static_frontend": True}),
        ("static_frontend", {"worker": True}),
        ("static_frontend", {"static_frontend": False}),
        ("fullstack", {"worker": False}),
        *(("fullstack", {capability: False}) for capability in FIXED),
    ],
)
async def test_capabilities_that_do_not_fit_are_refused(
    services: Services, ada: Account, kind: str, capabilities: dict[str, bool]
) -> None:
    with pytest.raises(InvalidCapabilities):
        await services.create(ada.id, "api", kind, capabilities)
    assert await names(services, ada.id) == []


async def test_a_service_of_an_absent_account_is_refused(services: Services) -> None:
    with pytest.raises(AccountNotFound):
        await services.create("account_00000000000000000000", "api", "rust_worker", {})


async def test_a_name_is_unique_among_the_living_of_an_account(services: Services, ada: Account, bob: Account) -> None:
    await services.create(ada.id, "api", "rust_worker", {})
    with pytest.raises(ServiceNameTaken):
        await services.create(ada.id, "api", "fullstack", {})
    await services.create(bob.id, "api", "rust_worker", {})


async def test_one_of_many_simultaneous_creations_of_a_name_wins(
    services: Services, second_services: Services, ada: Account
) -> None:
    results = await asyncio.gather(
        *(instance.create(ada.id, "api", "rust_worker", {}) for instance in (services, second_services) * 5),
        return_exceptions=True,
    )
    assert sum(isinstance(result, Service) for result in results) == 1
    assert sum(isinstance(result, ServiceNameTaken) for result in results) == 9


@pytest.mark.parametrize("plan", ["free", "pro"])
async def test_the_plans_last_service_is_taken_and_the_next_refused_also_in_parallel(
    accounts: Accounts, services: Services, second_services: Services, database: Database, ada: Account, plan: str
) -> None:
    await accounts.set_plan(ada.id, plan)
    limit = SERVICES_MAX[plan]  # type: ignore[index]
    await fill(database, ada.id, limit - 1)
    results = await asyncio.gather(
        *(
            instance.create(ada.id, f"new-{number}", "rust_worker", {})
            for number, instance in enumerate((services, second_services) * 2)
        ),
        return_exceptions=True,
    )
    refused = [result for result in results if isinstance(result, ServiceLimitReached)]
    assert len(refused) == 3
    assert refused[0].params == {"plan": plan, "limit": str(limit)}
    assert len(await names(services, ada.id)) == limit


def test_the_plans_limits_are_those_of_the_price_book() -> None:
    assert SERVICES_MAX == {"free": 100, "pro": 500, "self_hosted": 1_000_000}


async def test_a_deleted_service_is_hidden_and_its_name_free_at_once(
    services: Services, ada: Account, clock: FakeClock
) -> None:
    service = await services.create(ada.id, "api", "rust_worker", {})
    deleted = await services.delete(ada.id, "api")
    assert (deleted.deleted_at_ms, deleted.purge_at_ms) == (clock.wall_ms(), clock.wall_ms() + 72 * 3_600_000)
    assert await names(services, ada.id) == []
    assert await names(services, ada.id, deleted=True) == ["api"]
    with pytest.raises(ServiceNotFound):
        await services.delete(ada.id, service.id)
    assert (await services.create(ada.id, "api", "rust_worker", {})).id != service.id


async def test_a_deleted_service_can_be_restored_for_72_hours(
    services: Services, ada: Account, clock: FakeClock
) -> None:
    service = await services.create(ada.id, "api", "rust_worker", {"kv": False})
    await services.delete(ada.id, service.id)
    clock.advance(SERVICE_UNDO_MS - 1)
    assert await services.restore(ada.id, service.id) == service
    assert await services.resolve(ada.id, "api") == service
    await services.delete(ada.id, service.id)
    clock.advance(SERVICE_UNDO_MS)
    with pytest.raises(ServiceNotFound):
        await services.restore(ada.id, service.id)
    assert await names(services, ada.id, deleted=True) == []


async def test_restoring_a_living_service_changes_nothing(services: Services, activity: Activity, ada: Account) -> None:
    service = await services.create(ada.id, "api", "rust_worker", {})
    assert await services.restore(ada.id, service.id) == service
    entries, _ = await activity.page(ada.id, 1, "")
    assert entries[0].kind == "service_created"


async def test_a_service_whose_name_was_given_away_stays_deleted(services: Services, ada: Account) -> None:
    service = await services.create(ada.id, "api", "rust_worker", {})
    await services.delete(ada.id, service.id)
    await services.create(ada.id, "api", "rust_worker", {})
    with pytest.raises(ServiceNotRestorable):
        await services.restore(ada.id, service.id)


async def test_of_a_restore_and_a_creation_of_the_name_one_wins(
    services: Services, second_services: Services, ada: Account
) -> None:
    service = await services.create(ada.id, "api", "rust_worker", {})
    await services.delete(ada.id, service.id)
    results = await asyncio.gather(
        services.restore(ada.id, service.id),
        second_services.create(ada.id, "api", "rust_worker", {}),
        return_exceptions=True,
    )
    assert sum(isinstance(result, Service) for result in results) == 1
    assert await names(services, ada.id) == ["api"]


async def test_a_restore_keeps_the_plans_limits(
    services: Services, registry: Registry, database: Database, ada: Account, shard: str
) -> None:
    first = await services.create(ada.id, "first", "rust_worker", {})
    for number in range(10):
        await registry.reserve(ada.id, first.id, "sqlite_database", new_id("sqlite"), f"DB{number}", shard=shard)
    await services.delete(ada.id, first.id)
    second = await services.create(ada.id, "second", "rust_worker", {})
    await registry.reserve(ada.id, second.id, "sqlite_database", new_id("sqlite"), "DB", shard=shard)
    with pytest.raises(ResourcePlanLimitReached):
        await services.restore(ada.id, first.id)
    assert await names(services, ada.id) == ["second"]
    await services.delete(ada.id, second.id)
    await fill(database, ada.id, SERVICES_MAX["free"])
    with pytest.raises(ServiceLimitReached):
        await services.restore(ada.id, first.id)


async def test_a_foreign_service_is_neither_deleted_nor_restored(
    services: Services, ada: Account, bob: Account
) -> None:
    service = await services.create(ada.id, "api", "rust_worker", {})
    with pytest.raises(ServiceNotFound):
        await services.delete(bob.id, service.id)
    await services.delete(ada.id, service.id)
    with pytest.raises(ServiceNotFound):
        await services.restore(bob.id, service.id)
    assert await names(services, ada.id, deleted=True) == ["api"]


async def test_services_are_listed_oldest_first_with_their_counts(
    services: Services, registry: Registry, ada: Account, clock: FakeClock
) -> None:
    second_name_first = await services.create(ada.id, "b", "rust_worker", {})
    clock.advance(1)
    await services.create(ada.id, "a", "rust_worker", {})
    for name in ("CACHE", "SESSIONS"):
        resource_id = new_id("kv")
        await registry.reserve(ada.id, second_name_first.id, "kv_namespace", resource_id, name)
        if name == "CACHE":
            await registry.confirm(second_name_first.id, "kv_namespace", resource_id)
    page, cursor = await services.page(ada.id, deleted=False, cursor="")
    assert [(service.name, service.resource_counts) for service in page] == [("b", {"kv_namespace": 1}), ("a", {})]
    assert cursor == ""
    assert (await services.resolve(ada.id, "b")).resource_counts == {"kv_namespace": 1}


async def test_a_large_listing_comes_in_pages_without_gaps_or_repeats(
    services: Services, database: Database, ada: Account, bob: Account
) -> None:
    await fill(database, ada.id, 2_001)
    first, cursor = await services.page(ada.id, deleted=False, cursor="")
    assert len(first) == 2_000
    with pytest.raises(InvalidCursor):
        await services.page(bob.id, deleted=False, cursor=cursor)
    with pytest.raises(InvalidCursor):
        await services.page(ada.id, deleted=True, cursor=cursor)
    second, end = await services.page(ada.id, deleted=False, cursor=cursor)
    assert {service.name for service in first + second} == {f"s-{number}" for number in range(2_001)}
    assert end == ""


async def test_every_change_is_recorded_and_noticed(
    services: Services, activity: Activity, ada: Account, published: list[tuple[str, bytes]]
) -> None:
    service = await services.create(ada.id, "api", "rust_worker", {})
    await services.delete(ada.id, "api")
    await services.restore(ada.id, service.id)
    entries, _ = await activity.page(ada.id, 3, "")
    assert [entry.kind for entry in entries] == ["service_restored", "service_deleted", "service_created"]
    assert {entry.service_id for entry in entries} == {service.id}
    assert [subject for subject, _ in published].count(f"tovuk.changed.services.{ada.id}") == 3
