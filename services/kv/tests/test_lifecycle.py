"""Namespaces come and go, in agreement with control's real registry."""

import asyncio
from typing import Any

import pytest

from tovuk.control.v1 import control_pb2 as wire
from tovuk.control.v1.control_pb2_grpc import RegistryStub
from tovuk_kit.errors import TovukError
from tovuk_kit.ids import new_id
from tovuk_kv.store.base import Namespace, Stored


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


async def test_what_a_crash_left_between_store_and_registry_is_settled(house: Any) -> None:
    registry = house.lifecycle._registry
    stored = Namespace(new_id("kv"), "STORED", house.service, house.account, 0)
    await house.store.create(stored)
    dropped = await house.create("DROPPED")
    await house.store.drop(await house.store.find(house.service, "DROPPED"))
    assert not await reserve(house, dropped.ref)
    await house.lifecycle.finish_deletions()
    assert await reserve(house, dropped.ref)
    assert await registry.unsettled() == []


async def test_a_purged_service_is_emptied_and_takes_nothing_more(house: Any) -> None:
    target = await house.create()
    assert isinstance(await house.put(target, b"k"), Stored)
    for namespace in await house.store.entomb(house.service):
        await house.store.drop(namespace)
    assert (await house.get(target, b"k")).code == "kv_namespace_not_found"
    with pytest.raises(TovukError) as raised:
        await house.create("LATE")
    assert raised.value.code == "service_not_found"
    assert await reserve(house, "LATE"), "the refused one was released"


async def test_upkeep_sweeps_and_finishes_deletions(house: Any) -> None:
    target = await house.create()
    other = await house.create("OTHER")
    await house.put(target, b"k", b"value", ttl=30)
    await house.put(other, b"k", b"value")
    await house.store.drop(await house.store.find(house.service, "OTHER"))
    house.clock.advance(31_000)
    house.upkeep.start()
    try:
        async with asyncio.timeout(20):
            while await house.store.dropped() or (await house.store.sweep(0)).keys or await stored(house):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    finally:
        await house.upkeep.close()


async def stored(house: Any) -> int:
    levels = [await usage.level(house.account, "kv_storage_bytes") for usage in house.store.usage_stores]
    return sum(level.bytes for level in levels)
