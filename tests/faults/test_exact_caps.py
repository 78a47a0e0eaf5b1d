"""Caps are exact to the unit: whoever asks, from where, one by one or in bulk, whatever dies meanwhile."""

import asyncio
import random
from itertools import count
from typing import Any

import pytest
from composition import Composition
from load import Load, Outcome, Request
from tenant import Tenant

_METERS = ("kv_writes", "kv_deletes", "kv_reads", "kv_lists")
_SKEWS = ("even", "one", "uneven")


def _requests(tenant: Tenant, meter: str, keys: Any) -> Any:
    """What makes the next request that is charged one unit of the meter."""

    def request() -> Request:
        key = keys()
        path = f"{tenant.kv}/values/{key}"
        match meter:
            case "kv_writes":
                return Request("PUT", path, {"value": "v"}, name=key)
            case "kv_deletes":
                return Request("DELETE", path, name=key)
            case "kv_reads":
                return Request("GET", path, name=key)
            case _:
                return Request("GET", f"{tenant.kv}/keys?limit=10")

    return request


def _check_exact(load: Load, tenant: Tenant, meter: str, cap: int) -> None:
    assert load.done == cap
    assert load.early_refusals() == []
    tenant.wait_until_metered(meter, cap)
    assert tenant.in_breakdown(meter) == cap


@pytest.mark.everywhere
async def test_exactly_the_cap_is_done(
    tenant: Tenant, meter: str, seed: int, size: Any, rng: random.Random, keys: Any
) -> None:
    tenant.put_cap(meter, size.cap)
    load = Load(tenant.url, tenant.token, rng)
    await load.run(_requests(tenant, meter, keys(rng.choice(_SKEWS))))
    _check_exact(load, tenant, meter, size.cap)


async def test_all_load_on_one_key_gets_what_one_request_elsewhere_left(
    tenant: Tenant, meter: str, seed: int, size: Any, rng: random.Random
) -> None:
    tenant.put_cap(meter, size.cap)
    names = (f"elsewhere-{number}" for number in count())
    first = Load(tenant.url, tenant.token, rng)
    elsewhere = rng.randrange(1, 9)
    await first.run(
        _requests(tenant, meter, lambda: next(names)), connections=1, enough=lambda: first.done >= elsewhere
    )
    assert first.done == elsewhere
    load = Load(tenant.url, tenant.token, rng, done=elsewhere)
    await load.run(_requests(tenant, meter, lambda: "the-one"))
    _check_exact(load, tenant, meter, size.cap)


async def test_a_cap_set_in_mid_traffic_is_exact_from_its_answer_on(
    tenant: Tenant, meter: str, seed: int, size: Any, rng: random.Random, keys: Any
) -> None:
    load = Load(tenant.url, tenant.token, rng)
    traffic = asyncio.create_task(load.run(_requests(tenant, meter, keys(rng.choice(_SKEWS)))))
    enough = rng.randrange(size.cap // 8, size.cap // 4)
    await _until_done(load, enough, traffic)
    await asyncio.to_thread(tenant.put_cap, meter, size.cap * 4)
    in_force = load.done
    await traffic
    assert in_force < size.cap * 4, "the cap was set too late to show anything"
    _check_exact(load, tenant, meter, size.cap * 4)


async def test_a_cap_below_what_is_used_stops_all_that_begins_after_its_answer(
    tenant: Tenant, seed: int, size: Any, rng: random.Random, keys: Any
) -> None:
    meter = rng.choice(_METERS)
    load = Load(tenant.url, tenant.token, rng)
    traffic = asyncio.create_task(load.run(_requests(tenant, meter, keys(rng.choice(_SKEWS)))))
    await _until_done(load, size.cap // 4, traffic)
    await asyncio.to_thread(tenant.put_cap, meter, size.cap // 8)
    in_force = asyncio.get_running_loop().time()
    await traffic
    assert [late for late in load.of(Outcome.DONE) if late.began > in_force] == []
    tenant.wait_until_metered(meter, load.done)


async def test_bulk_requests_take_all_their_units_or_none(
    tenant: Tenant, seed: int, size: Any, rng: random.Random, keys: Any
) -> None:
    meter = rng.choice(("kv_writes", "kv_deletes", "kv_reads"))
    tenant.put_cap(meter, size.cap)
    names = keys("even")

    def bulk() -> Request:
        units = rng.choice((1, 2, rng.randrange(3, 90)))
        found = [names() for _ in range(units)]
        if meter == "kv_writes":
            return Request("PUT", f"{tenant.kv}/bulk", {"entries": [{"key": k, "value": "v"} for k in found]}, units)
        end = "bulk/removals" if meter == "kv_deletes" else "bulk"
        return Request("POST", f"{tenant.kv}/{end}", {"keys": found}, units)

    load = Load(tenant.url, tenant.token, rng)
    await load.run(bulk)
    assert size.cap - 90 < load.done <= size.cap
    await load.run(_requests(tenant, meter, names))
    _check_exact(load, tenant, meter, size.cap)
    if meter == "kv_writes":
        assert len(tenant.keys()) == size.cap


async def test_killing_metering_in_mid_traffic_loses_and_adds_no_unit(
    composition: Composition, tenant: Tenant, meter: str, seed: int, size: Any, rng: random.Random, keys: Any
) -> None:
    tenant.put_cap(meter, size.cap)
    load = Load(tenant.url, tenant.token, rng)
    traffic = asyncio.create_task(load.run(_requests(tenant, meter, keys(rng.choice(_SKEWS)))))
    for _ in range(rng.randrange(1, 4)):
        target = load.done + rng.randrange(1, size.cap // 4)
        await _until_done(load, target, traffic)
        composition.kill("metering")
        await asyncio.sleep(rng.random() / 2)
        composition.start("metering")
    await traffic
    _check_exact(load, tenant, meter, size.cap)


async def test_killing_kv_in_mid_traffic_leaves_writes_exact(
    composition: Composition, tenant: Tenant, seed: int, size: Any, rng: random.Random, keys: Any
) -> None:
    tenant.put_cap("kv_writes", size.cap)
    load = Load(tenant.url, tenant.token, rng)
    traffic = asyncio.create_task(load.run(_requests(tenant, "kv_writes", keys("even"))))
    await _kill_kv(composition, load, traffic, size.cap, rng)
    await traffic
    stored = set(tenant.keys())
    sent = {attempt.request.name for attempt in load.attempts}
    acknowledged = {attempt.request.name for attempt in load.of(Outcome.DONE)}
    assert acknowledged <= stored <= sent
    assert stored.isdisjoint(a.request.name for a in load.attempts if a.outcome in {Outcome.NOT_DONE, Outcome.REFUSED})
    assert len(stored) == size.cap
    assert load.early_refusals() == []
    tenant.wait_until_metered("kv_writes", size.cap)


async def test_killing_kv_in_mid_traffic_leaves_deletes_exact(
    composition: Composition, tenant: Tenant, seed: int, size: Any, rng: random.Random, keys: Any
) -> None:
    names = [f"k{number}" for number in range(size.cap * 3)]
    tenant.put_many(names)
    tenant.put_cap("kv_deletes", size.cap)
    load = Load(tenant.url, tenant.token, rng)
    traffic = asyncio.create_task(load.run(_requests(tenant, "kv_deletes", keys("even"))))
    await _kill_kv(composition, load, traffic, size.cap, rng)
    await traffic
    gone = set(names) - tenant.keys().keys()
    acknowledged = {attempt.request.name for attempt in load.of(Outcome.DONE)}
    assert acknowledged <= gone
    assert len(gone) == size.cap
    assert load.early_refusals() == []
    tenant.wait_until_metered("kv_deletes", size.cap)


async def test_killing_kv_in_mid_traffic_never_passes_a_cap_on_reads(
    composition: Composition, tenant: Tenant, seed: int, size: Any, rng: random.Random, keys: Any
) -> None:
    meter = rng.choice(("kv_reads", "kv_lists"))
    tenant.put_cap(meter, size.cap)
    load = Load(tenant.url, tenant.token, rng)
    traffic = asyncio.create_task(load.run(_requests(tenant, meter, keys(rng.choice(_SKEWS)))))
    await _kill_kv(composition, load, traffic, size.cap, rng)
    await traffic
    assert load.done <= size.cap
    assert load.early_refusals() == []
    assert tenant.settled(meter) <= load.done + len(load.of(Outcome.UNKNOWN))


async def _until_done(load: Load, units: int, traffic: "asyncio.Task[None]") -> None:
    while load.done < units and not traffic.done():  # noqa: ASYNC110 -- the load tells nobody
        await asyncio.sleep(0.002)


async def _kill_kv(
    composition: Composition, load: Load, traffic: "asyncio.Task[None]", cap: int, rng: random.Random
) -> None:
    for _ in range(rng.randrange(1, 3)):
        target = load.done + rng.randrange(1, cap // 3)
        await _until_done(load, target, traffic)
        victim = rng.choice(composition.replicas)
        composition.kill(victim)
        await asyncio.sleep(rng.random() / 2)
        composition.start(victim)
