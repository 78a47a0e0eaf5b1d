"""What goes on while something is down, what says so, and how soon all is back."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from composition import Composition
from load import Load, Outcome, Request
from product import Product
from tenant import Tenant

_BACK_WITHIN_S = 5.0
_REVOKED_WITHIN_S = 5.0
#: For so long a lease in hand may be charged without a heartbeat.
_LEASE_VALID_S = 3.0


def _eventually(within_s: float, found: Callable[[], bool]) -> float:
    """The seconds until it is so; fails when it never is."""
    began = time.monotonic()
    while not found():
        assert time.monotonic() - began < within_s
        time.sleep(0.02)
    return time.monotonic() - began


def _put(tenant: Tenant, key: str) -> httpx.Response:
    return tenant.request("PUT", f"{tenant.kv}/values/{key}", json={"value": key})


def _get(tenant: Tenant, key: str) -> httpx.Response:
    return tenant.request("GET", f"{tenant.kv}/values/{key}")


def _enveloped(answer: httpx.Response, *codes: str) -> bool:
    body = answer.json()
    envelope = {"code", "message", "agent_instruction", "docs_url", "retryable", "outcome", "request_id"}
    return body["code"] in codes and envelope <= body.keys()


async def test_random_kills_under_load_are_over_in_seconds(tmp_path: Path, size: Any, rng: random.Random) -> None:
    with Product.launched(tmp_path) as product:
        tenant = Tenant.of(product.url, product.token)
        numbers = count()
        stop = False

        def mixed() -> Request:
            if rng.random() < 0.5:
                return Request("GET", f"{tenant.kv}/values/w{rng.randrange(1000)}")
            key = f"w{next(numbers)}"
            return Request("PUT", f"{tenant.kv}/values/{key}", {"value": key}, name=key)

        def is_back() -> bool:
            try:
                answers = (_put(tenant, "probe"), _get(tenant, "probe"), tenant.request("GET", "/v1/usage"))
            except httpx.TransportError:
                return False
            return all(answer.is_success for answer in answers)

        load = Load(product.url, product.token, rng)
        traffic = asyncio.create_task(load.run(mixed, enough=lambda: stop, within_s=3600))
        for _ in range(40 if size.cap >= 10_000 else 3):
            await asyncio.sleep(rng.uniform(0.3, 1.5))
            name, pid = rng.choice(sorted(product.processes().items()))
            os.kill(pid, signal.SIGKILL)
            took_s = await asyncio.to_thread(_eventually, _BACK_WITHIN_S, is_back)
            assert took_s < _BACK_WITHIN_S, name
            # A launcher that starts a process again and again takes longer each time, until it has lived a while.
            await asyncio.sleep(11 if size.cap >= 10_000 else 0)
        stop = True
        await traffic
        stored = tenant.keys().keys()
        assert {attempt.request.name for attempt in load.of(Outcome.DONE)} - {""} <= stored


@pytest.mark.once("embedded")
async def test_without_nats_nothing_stops_and_caps_hold(
    composition: Composition, tenant: Tenant, seed: int, rng: random.Random
) -> None:
    capped = Tenant.made(composition.url, composition.token)
    capped.put_cap("kv_writes", 200)
    composition.kill("nats")
    try:
        load = Load(capped.url, capped.token, rng)
        until = time.monotonic() + 2
        numbers = count()

        def put() -> Request:
            return Request("PUT", f"{capped.kv}/values/k{next(numbers)}", {"value": "v"})

        await load.run(put, connections=16, enough=lambda: time.monotonic() > until)
        assert 0 < load.done <= 200
        assert load.of(Outcome.REFUSED) == []
        assert all(_put(tenant, f"k{number}").is_success for number in range(50))
        assert _get(tenant, "k7").json()["value"] == "k7"
        assert tenant.request("GET", "/v1/usage").is_success
    finally:
        composition.start("nats")
    await load.run(put)
    assert load.done == 200
    assert load.early_refusals() == []
    capped.wait_until_metered("kv_writes", 200)
    tenant.wait_until_metered("kv_writes", 50)


@pytest.mark.once("embedded")
def test_without_metering_the_uncapped_go_on_and_nobody_passes_a_cap(
    composition: Composition, tenant: Tenant, seed: int
) -> None:
    capped, unheard_of = (Tenant.made(composition.url, composition.token) for _ in range(2))
    capped.put_cap("kv_writes", 1000)
    used = 0
    for account in (tenant, capped):
        assert _put(account, "k").is_success
        assert _get(account, "k").is_success
        account.wait_until_metered("kv_writes", 1)
    composition.kill("metering")
    try:
        began = time.monotonic()
        while (answer := _put(capped, "k")).is_success:
            used += 1
            assert time.monotonic() - began < _LEASE_VALID_S + 2
        assert answer.status_code == 503 and _enveloped(answer, "metering_unavailable"), answer.text
        assert answer.headers["retry-after"]
        assert _get(capped, "k").is_success, "reads have no cap"
        while time.monotonic() - began < _LEASE_VALID_S + 3:
            assert _put(tenant, "k").is_success
            assert _get(tenant, "k").json()["value"] == "k"
        assert _enveloped(_put(unheard_of, "k"), "metering_unavailable")
        for account in (tenant, unheard_of):
            answer = account.request("GET", "/v1/usage")
            if answer.is_success:
                assert answer.json()["delayed"] is True
                assert answer.json()["usage"]["meters"]["day"]["kv_writes"] == 1
            else:
                assert answer.status_code == 503 and _enveloped(answer, "service_unavailable")
        cap = tenant.request("PUT", "/v1/usage/caps/kv_reads", json={"period": "day", "capValue": 1})
        assert cap.status_code == 503 and _enveloped(cap, "service_unavailable", "outcome_unknown")
    finally:
        composition.start("metering")
    _eventually(_BACK_WITHIN_S, lambda: _put(capped, "k").is_success and _put(unheard_of, "k").is_success)
    capped.wait_until_metered("kv_writes", used + 2)


@pytest.mark.once("embedded")
def test_without_control_known_callers_go_on(composition: Composition, tenant: Tenant, seed: int) -> None:
    assert _put(tenant, "k").is_success
    composition.kill("control")
    try:
        began = time.monotonic()
        while time.monotonic() - began < 6:
            assert _put(tenant, "k").is_success
            assert _get(tenant, "k").is_success
        made = tenant.request("POST", "/v1/services", json={"name": "later", "kind": "rust_worker"})
        assert made.status_code == 503 and _enveloped(made, "service_unavailable", "outcome_unknown")
        unknown = httpx.get(
            f"{tenant.url}{tenant.kv}/values/k", headers={"Authorization": "Bearer " + "x" * 40}, verify=False
        )
        assert unknown.status_code == 503 and _enveloped(unknown, "service_unavailable")
    finally:
        composition.start("control")
    _eventually(_BACK_WITHIN_S, lambda: tenant.request("GET", "/v1/services").is_success)


@pytest.mark.once("embedded")
def test_without_kv_all_else_goes_on(composition: Composition, tenant: Tenant, seed: int) -> None:
    assert _put(tenant, "k").is_success
    for replica in composition.replicas:
        composition.kill(replica)
    try:
        for answer in (_put(tenant, "k"), _get(tenant, "k"), tenant.request("GET", f"{tenant.kv}/keys")):
            assert answer.status_code == 503, answer.text
            assert _enveloped(answer, "service_unavailable", "outcome_unknown")
        assert tenant.request("GET", "/v1/usage").is_success
        assert tenant.request("GET", "/v1/services").is_success
    finally:
        for replica in composition.replicas:
            composition.start(replica)
    _eventually(_BACK_WITHIN_S, lambda: _get(tenant, "k").is_success and _put(tenant, "k").is_success)


@pytest.mark.parametrize("notices", [True, False], ids=["noticed", "unnoticed"])
def test_a_revoked_token_is_of_no_use_within_five_seconds(tmp_path: Path, notices: bool) -> None:
    with Product.launched(tmp_path, TOVUK_GATEWAYS="2") as product:
        tenant = Tenant.of(product.url, product.token)
        asked = {"scope": "runtime", "service": tenant.service}
        made = tenant.request("POST", "/v1/account/tokens", json=asked).json()
        runtime = Tenant(tenant.url, made["secret"], tenant.service, tenant.kv)
        # Each request is a connection of its own, so both gateways come to know the token.
        assert all(_put(runtime, "k").is_success for _ in range(20))
        nats = product.processes()["nats-server"]
        if not notices:
            os.kill(nats, signal.SIGSTOP)
        try:
            revoked = tenant.request("DELETE", f"/v1/account/tokens/{made['token']['id']}")
            assert revoked.is_success, revoked.text
            _eventually(
                1.0 if notices else _REVOKED_WITHIN_S,
                lambda: all(_put(runtime, "k").status_code == 401 for _ in range(20)),
            )
            assert _enveloped(_get(runtime, "k"), "unauthenticated")
        finally:
            os.kill(nats, signal.SIGCONT)
