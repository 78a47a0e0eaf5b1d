"""The gateway in this process, over the real services in their own, on Unix sockets; a new account for every test."""

import asyncio
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tovuk_gateway.main import Gateway, bound_socket, server, wired
from tovuk_gateway.settings import Settings

INTERNAL_KEY = "the internal key of the gateway's tests"
OPERATOR = "the-owner-of-the-tests"
ORIGIN = "https://house.test"
_START_SECONDS_MAX = 30.0
_handles = count()


def _dies_with_us() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


@dataclass
class House:
    """The services behind the gateway; each can be stopped and continued."""

    folder: Path
    processes: dict[str, subprocess.Popen[bytes]]

    def target(self, service: str) -> str:
        return f"unix:{self.folder}/{service}.sock"

    def settings(self, **changes: Any) -> Settings:
        """The gateway's settings over this house."""
        given: dict[str, Any] = {
            "internal_key": INTERNAL_KEY,
            "listen": "127.0.0.1:0",
            "public_url": ORIGIN,
            "control_target": self.target("control"),
            "metering_target": self.target("metering"),
            "kv_targets": (self.target("kv"),),
            "operator_contact": "ops & <friends>",
            **changes,
        }
        return Settings(**given)


@pytest.fixture(scope="session")
def house() -> Iterator[House]:
    """Control, metering, KV, sqlite and NATS, started once."""
    with tempfile.TemporaryDirectory(prefix="tovuk-gateway-") as name:
        started = House(Path(name), {})
        try:
            _start_all(started)
            yield started
        finally:
            for process in started.processes.values():
                process.kill()
            for process in started.processes.values():
                process.wait()


def _start_all(house: House) -> None:
    binaries = Path(sys.executable).parent
    folder = house.folder

    def start(service: str, command: list[str], **env: str) -> None:
        with (folder / f"{service}.log").open("wb") as log:
            house.processes[service] = subprocess.Popen(
                command,
                env={**os.environ, **env},
                stdout=log,
                stderr=log,
                preexec_fn=_dies_with_us,  # noqa: PLW1509 no thread runs yet
            )

    nats = shutil.which("nats-server", path=f"{binaries}{os.pathsep}{os.environ['PATH']}")
    assert nats, "make setup installs nats-server"
    config = folder / "nats.conf"
    config.write_text(
        f'listen: "127.0.0.1:-1"\nports_file_dir: "{folder}"\n'
        f'jetstream {{ store_dir: "{folder}/nats", sync_interval: always }}\n'
    )
    start("nats", [nats, "-c", str(config)])
    ports = folder / f"nats-server_{house.processes['nats'].pid}.ports"
    _until(ports.exists, "nats", folder)
    shared = {
        "TOVUK_INTERNAL_KEY": INTERNAL_KEY,
        "TOVUK_NATS_URL": json.loads(ports.read_text())["nats"][0],
        "TOVUK_PUBLIC_URL": ORIGIN,
        "TOVUK_CONTROL_TARGET": house.target("control"),
        "TOVUK_METERING_TARGET": house.target("metering"),
    }
    for service, store in (
        ("metering", {"TOVUK_METERING_DATABASE_URL": f"sqlite:///{folder}/metering.db"}),
        (
            "control",
            {"TOVUK_CONTROL_DATABASE_URL": f"sqlite:///{folder}/control.db", "TOVUK_BOOTSTRAP_TOKEN": OPERATOR},
        ),
        ("kv", {"TOVUK_KV_ENGINE": "sqlite", "TOVUK_KV_DATA_DIR": f"{folder}/kv"}),
        ("sqlite", {"TOVUK_SQLITE_DATA_DIR": f"{folder}/sqlite"}),
    ):
        listen = {f"TOVUK_{service.upper()}_LISTEN": house.target(service)}
        start(service, [str(binaries / f"tovuk-{service}")], **shared, **store, **listen)
    for service in ("metering", "control", "kv", "sqlite"):
        _until((folder / f"{service}.sock").exists, service, folder)


def _until(true: Any, service: str, folder: Path) -> None:
    end = time.monotonic() + _START_SECONDS_MAX
    while not true():
        if time.monotonic() > end:
            pytest.fail(f"{service} did not start:\n{(folder / f'{service}.log').read_text()[-3000:]}")
        time.sleep(0.02)


@dataclass
class Served:
    """A gateway that answers on a port of its own."""

    gateway: Gateway
    address: tuple[str, int]
    uvicorn: Any
    task: "asyncio.Task[None]"

    @property
    def url(self) -> str:
        return f"http://{self.address[0]}:{self.address[1]}"

    def client(self, token: str | None = None) -> httpx.AsyncClient:
        """A client that sends the token."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=30, verify=False)

    async def raw(self, request: bytes) -> bytes:
        """Everything the gateway sends for these bytes until it closes the connection."""
        reader, writer = await asyncio.open_connection(*self.address)
        try:
            writer.write(request)
            async with asyncio.timeout(20):
                return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()

    async def stop(self) -> None:
        """Drain as SIGTERM does."""
        self.uvicorn.should_exit = True
        await self.task


@asynccontextmanager
async def serving(settings: Settings, *, hot: bool = True) -> AsyncIterator[Served]:
    """A gateway; without `hot`, on uvicorn's own protocol, so that every request runs through FastAPI."""
    async with wired(settings) as gateway:
        async with asyncio.timeout(_START_SECONDS_MAX):
            while settings.start_wait_seconds and not await gateway.health.ready(fresh=True):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        listener = bound_socket("127.0.0.1:0")
        running = server(gateway, drain_seconds=5, protocol=None if hot else HttpToolsProtocol)
        task = asyncio.create_task(running.serve([listener]))
        while not running.started:  # noqa: ASYNC110 uvicorn has no event for it
            await asyncio.sleep(0.005)
        served = Served(gateway, listener.getsockname(), running, task)
        try:
            yield served
        finally:
            await served.stop()


@pytest_asyncio.fixture
async def served(house: House) -> AsyncIterator[Served]:
    """A gateway with its fast path."""
    async with serving(house.settings()) as running:
        yield running


@dataclass
class Owner:
    """An account of a test's own, with a service and a namespace."""

    account_id: str
    token: str
    service_id: str
    namespace_id: str

    @property
    def values(self) -> str:
        return f"/v1/services/{self.service_id}/kv/CACHE/values"


async def new_owner(served: Served, plan: str = "self_hosted") -> Owner:
    """An account made by the operator, its service `shop` and the namespace CACHE."""
    async with served.client(OPERATOR) as operator:
        handle = f"owner-{os.getpid()}-{next(_handles)}"
        made = await operator.post("/v1/operator/accounts", json={"handle": handle, "plan": plan})
        assert made.status_code == 200, made.text
    account = made.json()
    async with served.client(account["token"]) as client:
        service = await client.post("/v1/services", json={"name": "shop"})
        assert service.status_code == 200, service.text
        service_id = service.json()["service"]["id"]
        namespace = await client.post(f"/v1/services/{service_id}/kv/namespaces", json={"name": "CACHE"})
        assert namespace.status_code == 200, namespace.text
    return Owner(account["account"]["id"], account["token"], service_id, namespace.json()["created"]["id"])


@pytest_asyncio.fixture
async def owner(served: Served) -> Owner:
    """See `new_owner`."""
    return await new_owner(served)


@pytest_asyncio.fixture
async def client(served: Served, owner: Owner) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the owner."""
    async with served.client(owner.token) as client:
        yield client


@pytest.fixture
def conftest() -> Any:
    """This module, for tests that start gateways or owners of their own: test folders are no packages."""
    return sys.modules[__name__]
