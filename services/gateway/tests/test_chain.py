"""What the chain remembers, and for how long."""

from typing import Any

import httpx
import pytest

from tovuk_gateway import limits
from tovuk_gateway.chain import Metrics, Need, _Memory, name_request
from tovuk_kit.telemetry import render_metrics


def test_a_memory_is_bounded_and_forgets_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CACHE_ENTRIES_MAX", 2)
    memory: _Memory[str, int] = _Memory(5.0)
    for moment, name in enumerate("abc"):
        memory.put(name, moment, float(moment))
    assert [memory.get(name, 3.0) for name in "abc"] == [None, 1, 2]
    assert memory.get("c", 7.0) == 2
    assert memory.get("c", 7.1) is None
    assert memory.get("c", 7.1, 30.0) == 2


def test_what_was_asked_before_something_was_forgotten_is_told_apart() -> None:
    memory: _Memory[str, int] = _Memory(5.0)
    before = memory.generation
    memory.forget(lambda _, __: True)
    assert memory.generation != before


@pytest.mark.parametrize("need", list(Need))
def test_a_runtime_token_reaches_no_change_of_what_a_service_consists_of(need: Need) -> None:
    assert ("runtime" in need.scopes) == (need in {Need.INSPECT, Need.DATA_READ, Need.DATA_WRITE})
    assert ("read" in need.scopes) == (need in {Need.READ, Need.INSPECT, Need.DATA_READ})


def test_made_request_ids_differ() -> None:
    assert len({name_request(None) for _ in range(1000)}) == 1000


async def test_both_ways_count_under_the_same_route(owner: Any, served: Any, client: httpx.AsyncClient) -> None:
    await client.get(f"{owner.values}/absent")
    await client.get(f"{owner.values}/absent?encoding=base64")
    metrics: Metrics = served.gateway.metrics
    route = "/v1/services/{service}/kv/{namespace}/values/{key}"
    assert [count for (name, status), (count, _) in metrics._answers.items() if (name, status) == (route, 404)] == [2]
    metrics.flush()
    assert f'route="{route}",status="404"' in render_metrics().decode()
