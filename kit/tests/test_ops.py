import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from tovuk_kit import ops
from tovuk_kit.ops import OpsEndpoint


class Readiness:
    def __init__(self) -> None:
        self.answer = True

    async def __call__(self) -> bool:
        return self.answer


@pytest.fixture
def readiness() -> Readiness:
    return Readiness()


@pytest.fixture
async def endpoint(readiness: Readiness) -> AsyncIterator[OpsEndpoint]:
    endpoint = await OpsEndpoint.listen("127.0.0.1:0", readiness)
    yield endpoint
    await endpoint.close()


@pytest.fixture
async def http(endpoint: OpsEndpoint) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{endpoint.port}", verify=False) as client:
        yield client


async def test_liveness_does_not_ask_for_readiness(http: httpx.AsyncClient, readiness: Readiness) -> None:
    readiness.answer = False
    assert (await http.get("/healthz")).status_code == 200


async def test_readiness_follows_the_service(http: httpx.AsyncClient, readiness: Readiness) -> None:
    assert (await http.get("/readyz")).status_code == 200
    readiness.answer = False
    assert (await http.get("/readyz")).status_code == 503


async def test_metrics_are_prometheus_text(http: httpx.AsyncClient) -> None:
    reply = await http.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "process_resident_memory_bytes" in reply.text


@pytest.mark.parametrize(("verb", "path"), [("GET", "/"), ("POST", "/metrics"), ("GET", "/healthz/x")])
async def test_everything_else_is_absent(http: httpx.AsyncClient, verb: str, path: str) -> None:
    assert (await http.request(verb, path)).status_code == 404


async def test_head_that_does_not_end_is_given_up(endpoint: OpsEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "_HEAD_S", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
    writer.write(b"GET /healthz HTTP/1.1\r\n")
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()


async def test_head_that_is_too_large_is_given_up(endpoint: OpsEndpoint, http: httpx.AsyncClient) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 20_000)
    async with asyncio.timeout(5):
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(1)
    writer.close()
    assert (await http.get("/healthz")).status_code == 200
