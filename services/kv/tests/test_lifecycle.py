"""Namespaces come and go, in agreement with control's real registry."""

from typing import Any

import pytest

from tovuk.control.v1 import control_pb2 as wire
from tovuk.control.v1.control_pb2_grpc import RegistryStub, ServicesStub
from tovuk_kit.errors import TovukError
from tovuk_kit.ids import new_id
from tovuk_kit.registry import Claim, Registry
from tovuk_kv.lifecycle import KIND, OWNER
from tovuk_kv.store.base import Namespace, Tombstoned


async def reserve(house: Any, name: str) -> bool:
    """Whether control has the name free."""
    request = wire.ReserveRequest(
        account_id=house.account,
        service_id=house.service,
        kind="kv_namespace",
        resource_id=new_id("kv"),
        name=name,
    )
    try:
        await house.control.unary(RegistryStub(house.control.grpc).Reserve, request, retry=False)
    except TovukError as error:
        return error.code != "resource_name_taken"
    return True


@pytest.mark.proves("KV-009", "KV-029")
async def test_a_namespace_is_registered_while_it_exists(house: Any) -> None:
    target = await house.create()
    assert [namespace.name for namespace in await house.lifecycle.list(house.service)] == ["CACHE"]
    with pytest.raises(TovukError) as raised:
        await house.create("cache")
    assert raised.value.code == "resource_name_taken"
    await house.put(target, b"k", b"value")
    gone = await house.lifecycle.delete(target)
    assert gone.name == "CACHE"
    with pytest.raises(TovukError) as raised:
        await house.lifecycle.delete(target)
    assert raised.value.code == "kv_namespace_not_found"
    assert (await house.get(target, b"k")).code == "kv_namespace_not_found"
    assert await house.used("kv_storage_bytes", 0) == 0
    fresh = await house.create()
    assert (await house.get(fresh, b"k")).code == "kv_key_not_found"
    await house.lifecycle.finish_deletions()
    assert await house.store.dropped() == []


async def test_a_namespace_is_deleted_by_its_id_too(house: Any) -> None:
    target = await house.create()
    (namespace,) = await house.lifecycle.list(house.service)
    await house.put(target._replace(ref=namespace.id), b"k", b"by id")
    assert (await house.get(target, b"k")).value == b"by id"
    await house.lifecycle.delete(target._replace(ref=namespace.id))
    assert isinstance(await house.get(target, b"k"), TovukError)


@pytest.mark.parametrize("name", ["", "1A", "a b", "a" * 64, "namespaces", "databases", "kv_" + "0" * 20, "ä"])
async def test_names_that_cannot_be_a_resources_are_refused(house: Any, name: str) -> None:
    with pytest.raises(TovukError) as raised:
        await house.create(name)
    assert raised.value.code == "invalid_resource_name"


async def test_what_a_crash_left_between_registry_and_store_is_settled(house: Any) -> None:
    registry = Registry(house.control, kind=KIND, owner=OWNER)
    exists = Namespace(new_id("kv"), "EXISTS", house.service, house.account, 0)
    await registry.reserve(house.account, Claim(house.service, exists.id, "EXISTS"))
    await house.store.create(exists)
    await registry.reserve(house.account, Claim(house.service, new_id("kv"), "NEVER"))
    house.clock.advance(61_000)
    assert len(await registry.unsettled()) == 2
    await house.lifecycle.settle()
    assert await registry.unsettled() == []
    assert not await reserve(house, "EXISTS")
    assert await reserve(house, "NEVER")


async def test_an_interrupted_deletion_is_finished_and_its_name_released(house: Any) -> None:
    target = await house.create()
    await house.put(target, b"k")
    await house.store.drop(await house.store.find(house.service, "CACHE"))
    assert not await reserve(house, "CACHE")
    await house.lifecycle.finish_deletions()
    assert await house.store.dropped() == []
    assert await reserve(house, "CACHE")


async def test_a_purged_service_is_emptied_acknowledged_and_takes_nothing_more(house: Any) -> None:
    target = await house.create()
    await house.put(target, b"k")
    request = wire.DeleteServiceRequest(account_id=house.account, ref=house.service)
    await house.control.unary(ServicesStub(house.control.grpc).DeleteService, request, retry=False)
    house.clock.advance(72 * 3_600_000 + 1000)
    await house.purge()
    registry = Registry(house.control, kind=KIND, owner=OWNER)
    assert await registry.tombstones() == [house.service]
    await house.lifecycle.bury_services()
    assert await registry.tombstones() == []
    assert (await house.get(target, b"k")).code == "kv_namespace_not_found"
    assert await house.used("kv_storage_bytes", 0) == 0
    with pytest.raises(Tombstoned):
        await house.store.create(Namespace(new_id("kv"), "LATE", house.service, house.account, 0))
    with pytest.raises(TovukError) as raised:
        await house.create("LATE")
    assert raised.value.code == "service_not_found"


async def test_a_create_that_meets_a_tombstone_releases_its_claim(house: Any) -> None:
    await house.store.entomb(house.service)
    with pytest.raises(TovukError) as raised:
        await house.create("LATE")
    assert raised.value.code == "service_not_found"
    assert await reserve(house, "LATE")


@pytest.mark.parametrize("house", ["sqlite"], indirect=True)
async def test_a_claim_is_reserved_confirmed_and_released_each_as_often_as_wanted(house: Any) -> None:
    registry = Registry(house.control, kind=KIND, owner=OWNER)
    claim = Claim(house.service, new_id("kv"), "CACHE")
    for _ in range(2):
        await registry.reserve(house.account, claim)
    house.clock.advance(61_000)
    assert await registry.unsettled() == [claim]
    for _ in range(2):
        await registry.confirm(claim)
    assert await registry.unsettled() == []
    with pytest.raises(TovukError) as raised:
        await registry.reserve(house.account, Claim(house.service, new_id("kv"), "cache"))
    assert raised.value.code == "resource_name_taken"
    for _ in range(2):
        await registry.release(claim)
    await registry.reserve(house.account, Claim(house.service, new_id("kv"), "CACHE"))
    assert await registry.tombstones() == []
