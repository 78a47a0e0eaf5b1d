"""When a service behind the gateway is away: what is known is used for seconds, what is not is refused and named."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from tovuk_gateway import limits


@asynccontextmanager
async def _away(house: Any, *services: str) -> AsyncIterator[None]:
    """A gateway to dead addresses would not do: these services stop in the middle of their work."""
    for service in services:
        house.processes[service].send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for service in services:
            house.processes[service].send_signal(signal.SIGCONT)


async def _codes(client: httpx.AsyncClient, *paths: str) -> list[tuple[int, str | None]]:
    answers = await asyncio.gather(*(client.get(path) for path in paths))
    return [(answer.status_code, answer.json().get("code")) for answer in answers]


@pytest.mark.proves("KV-039")
async def test_data_goes_on_while_control_is_away(
    served: Any, owner: Any, client: httpx.AsyncClient, house: Any
) -> None:
    await client.put(f"{owner.values}/k", json={"value": "kept"})
    async with _away(house, "control"):
        assert (await client.get(f"{owner.values}/k")).json()["value"] == "kept"
        # Past the first seconds only what was remembered still counts.
        served.gateway.chain._callers._seconds = served.gateway.chain._services._seconds = 0.0
        assert (await client.get(f"{owner.values}/k")).json()["value"] == "kept"
        async with served.client("a-token-nobody-asked-for") as unknown:
            answer = await unknown.get(f"{owner.values}/k")
            assert (answer.status_code, answer.json()["code"]) == (503, "service_unavailable")
            assert "control" in answer.json()["message"] and answer.headers["retry-after"]


async def test_remembered_callers_end_after_half_a_minute(
    served: Any, owner: Any, client: httpx.AsyncClient, house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.put(f"{owner.values}/k", json={"value": "kept"})
    async with _away(house, "control"):
        served.gateway.chain._callers._seconds = 0.0
        monkeypatch.setattr(limits, "CACHE_UNREACHABLE_SECONDS", 0.0)
        assert (await client.get(f"{owner.values}/k")).json()["code"] == "service_unavailable"


async def test_the_last_usage_is_served_as_delayed_while_metering_is_away(
    served: Any, owner: Any, client: httpx.AsyncClient, house: Any
) -> None:
    before = (await client.get("/v1/usage")).json()
    async with _away(house, "metering"):
        during = (await client.get("/v1/usage")).json()
        assert during["delayed"] is True and during["asOf"] == before["asOf"]
        assert (await client.get("/v1/capabilities")).status_code == 200
        overview = await client.get("/v1/services/shop/overview")
        assert overview.status_code == 503 and "metering" in overview.json()["message"]


async def test_usage_that_was_never_seen_is_unavailable_and_not_zero(
    served: Any, owner: Any, client: httpx.AsyncClient, house: Any
) -> None:
    async with _away(house, "metering"):
        assert await _codes(client, "/v1/usage") == [(503, "service_unavailable")]


async def test_a_lost_kv_is_named_and_a_write_that_may_have_left_is_of_unknown_outcome(
    served: Any, owner: Any, client: httpx.AsyncClient, house: Any
) -> None:
    await client.get(f"{owner.values}/warm")
    async with _away(house, "kv"):
        read, write, large = await asyncio.gather(
            client.get(f"{owner.values}/k"),
            client.put(f"{owner.values}/k", json={"value": "x"}),
            client.get("/v1/services/shop/resources"),
        )
        assert (read.status_code, read.json()["code"], read.json()["outcome"]) == (
            503,
            "service_unavailable",
            "not_done",
        )
        assert (write.status_code, write.json()["code"], write.json()["outcome"]) == (503, "outcome_unknown", "unknown")
        assert write.json()["retryable"] is False
        assert (large.status_code, "kv" in large.json()["message"]) == (503, True)
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/v1/status")).json()["services"]["kv"] == "unreachable"
    await asyncio.sleep(1.0)
    assert (await client.get(f"{owner.values}/k")).status_code in {200, 404}


@pytest.mark.proves("RES-093")
async def test_a_revoked_token_ends_within_seconds_on_every_process(
    served: Any, owner: Any, client: httpx.AsyncClient, house: Any, conftest: Any
) -> None:
    made = (await client.post("/v1/account/tokens", json={"scope": "user"})).json()
    async with conftest.serving(house.settings()) as other, other.client(made["secret"]) as elsewhere:
        assert (await elsewhere.get(f"{owner.values}/k")).status_code == 404
        await client.delete(f"/v1/account/tokens/{made['token']['id']}")
        async with asyncio.timeout(limits.CACHE_SECONDS + 2):
            while (await elsewhere.get(f"{owner.values}/k")).status_code != 401:  # noqa: ASYNC110 nobody tells
                await asyncio.sleep(0.1)


async def test_keys_spread_over_replicas_and_a_dead_one_is_passed_over(owner: Any, house: Any, conftest: Any) -> None:
    targets = (f"unix:{house.folder}/dead.sock", house.target("kv"))
    async with conftest.serving(house.settings(kv_targets=targets)) as two, two.client(owner.token) as client:
        for number in range(20):
            put = await client.put(f"{owner.values}/k{number}", json={"value": str(number)})
            assert put.status_code == 200, put.text
            assert (await client.get(f"{owner.values}/k{number}")).json()["value"] == str(number)
        assert len((await client.get(owner.values.replace("/values", "/keys"))).json()["keys"]) == 20
