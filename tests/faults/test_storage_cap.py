"""The bytes stored never pass their cap, and what fits always goes in."""

import asyncio
import random
from typing import Any

from composition import Composition
from load import Load, Outcome, Request
from tenant import Tenant

_METER = "kv_storage_bytes"


def _stored(tenant: Tenant) -> int:
    """Bytes of keys and values; there is no metadata."""
    return sum(len(key) + size for key, size in tenant.keys().items())


def _put(tenant: Tenant, key: str, value_bytes: int) -> Any:
    return tenant.request("PUT", f"{tenant.kv}/values/{key}", json={"value": "v" * value_bytes})


async def test_stored_bytes_stay_within_their_cap_in_any_fault(
    composition: Composition, tenant: Tenant, seed: int, size: Any, rng: random.Random
) -> None:
    cap = size.cap * 300
    tenant.put_cap(_METER, cap, "month")
    metered_most = 0

    def mixed() -> Request:
        path = f"{tenant.kv}/values/k{rng.randrange(size.cap)}"
        if rng.random() < 0.15:
            return Request("DELETE", path)
        return Request("PUT", path, {"value": "v" * rng.randrange(3000)})

    async def watch() -> None:
        nonlocal metered_most
        while True:
            answer = await asyncio.to_thread(tenant.request, "GET", "/v1/usage")
            if answer.is_success:
                metered_most = max(metered_most, answer.json()["usage"]["meters"]["month"][_METER])
            await asyncio.sleep(0.1)

    load = Load(tenant.url, tenant.token, rng)
    watching = asyncio.create_task(watch())
    traffic = asyncio.create_task(load.run(mixed, enough=lambda: len(load.attempts) >= size.cap * 2))
    for victim in (rng.choice(composition.replicas), "metering"):
        await asyncio.sleep(rng.uniform(0.2, 1.5))
        if not traffic.done():
            composition.kill(victim)
            await asyncio.sleep(rng.random() / 2)
            composition.start(victim)
    await traffic
    watching.cancel()
    assert load.of(Outcome.REFUSED), "the cap was never met"
    composition.wait_until_ready()
    stored = _stored(tenant)
    assert stored <= cap
    assert metered_most <= cap
    assert tenant.settled(_METER, for_s=1.5) == stored
    assert tenant.in_breakdown(_METER) == stored


async def test_a_full_cap_is_full_to_the_byte_and_takes_an_equal_overwrite(
    composition: Composition, tenant: Tenant, seed: int, size: Any, rng: random.Random
) -> None:
    cap = size.cap * 100
    tenant.put_cap(_METER, cap, "month")
    load = Load(tenant.url, tenant.token, rng)
    await load.run(lambda: Request("PUT", f"{tenant.kv}/values/k{rng.randrange(10**6)}", {"value": "v" * 700}))
    left = cap - _stored(tenant)
    assert 0 <= left < 707, "refused although it fits"
    if left < 50:
        largest = next(iter(tenant.keys()))
        assert tenant.request("DELETE", f"{tenant.kv}/values/{largest}").is_success
        left = cap - _stored(tenant)
    assert _until_settled(tenant, "last", left - len("last")).is_success
    assert _stored(tenant) == cap
    over = _until_settled(tenant, "one-more", 0)
    assert (over.status_code, over.json()["code"]) == (429, "usage_cap_reached")
    assert "retry-after" not in over.headers, "a level has no window to wait for"
    for key, value_bytes in list(tenant.keys().items())[: 20 if size.cap < 1000 else 100]:
        assert _put(tenant, key, value_bytes).is_success
        assert _until_settled(tenant, key, value_bytes + 1).json().get("code") == "usage_cap_reached"
    assert _stored(tenant) == cap
    assert tenant.request("DELETE", f"{tenant.kv}/values/last").is_success
    assert _until_settled(tenant, "LAST", left - len("LAST")).is_success, "what was deleted is room, wherever it lay"
    assert tenant.settled(_METER, for_s=1.0) == cap


def _until_settled(tenant: Tenant, key: str, value_bytes: int) -> Any:
    """A put, repeated while room may still come back from other places."""
    for _ in range(20):
        answer = _put(tenant, key, value_bytes)
        if answer.status_code != 503:
            break
    return answer
