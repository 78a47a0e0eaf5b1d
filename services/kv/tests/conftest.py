"""Engines for the tests: SQLite in a temporary folder, Redis as a real server of the test's own."""

import asyncio
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tovuk.control.v1 import control_pb2 as control_wire
from tovuk.control.v1.control_pb2_grpc import AccountsStub, ServicesStub
from tovuk.metering.v1 import metering_pb2 as metering_wire
from tovuk.metering.v1.metering_pb2_grpc import UsageStub
from tovuk_control.api import registrations as control_registrations
from tovuk_control.project.account import Accounts
from tovuk_control.project.activity import Activity
from tovuk_control.project.page import Cursors
from tovuk_control.project.registry import Registry as RegistryNoun
from tovuk_control.project.service import Services as ControlServices
from tovuk_control.project.shards import Shards
from tovuk_control.project.token import Tokens
from tovuk_control.upkeep import Upkeep as ControlUpkeep
from tovuk_kit import migrations
from tovuk_kit.client import Channel
from tovuk_kit.clock import FakeClock, SystemClock
from tovuk_kit.engines import open_database
from tovuk_kit.ids import new_id
from tovuk_kit.leases import Meters
from tovuk_kit.metering import MeteredProcess
from tovuk_kit.notices import Notices
from tovuk_kit.registry import Registry
from tovuk_kit.server import start_server
from tovuk_kit.usage import UNLIMITED
from tovuk_kv.api import exchange as kv_exchange
from tovuk_kv.api import registrations as kv_registrations
from tovuk_kv.bulk import Bulk
from tovuk_kv.directory import Target
from tovuk_kv.lifecycle import KIND, OWNER, Lifecycle
from tovuk_kv.namespace import GetAnswer, Namespaces
from tovuk_kv.setbacks import WriteAnswer
from tovuk_kv.store.base import Delete, Found, Lookup, Mutation, Namespace, Put, Result, Store, Upload
from tovuk_kv.store.redis import RedisStore
from tovuk_kv.store.sqlite import SqliteStore
from tovuk_kv.upkeep import Upkeep as KvUpkeep
from tovuk_kv.validation import parse_condition
from tovuk_metering.api import registrations as metering_registrations
from tovuk_metering.clients.control import ControlClient
from tovuk_metering.clients.usage_stream import UsageStream
from tovuk_metering.meter.prices import PriceBook
from tovuk_metering.meter.turn import Turns
from tovuk_metering.upkeep import Upkeep as MeteringUpkeep

NOW_MS = 1_800_000_000_000
METER = "kv_storage_bytes"


class RedisServer:
    """A redis-server of the test's own, which it may kill and start again over the same data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str) -> None:
        binary = shutil.which("redis-server")
        if binary is None:
            pytest.skip("redis-server is missing: apt-get install redis-server")
        command = [binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
        settings = ["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction", *arguments]
        self._process = subprocess.Popen([*command, *settings], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 10
        while time.monotonic() < end:
            try:
                assert self.cli("PING").strip() == "PONG"
            except (AssertionError, subprocess.CalledProcessError):
                time.sleep(0.01)
            else:
                return
        raise TimeoutError("redis-server did not start")

    def cli(self, *arguments: str) -> str:
        command = ["redis-cli", "-p", str(self.port), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout

    def pause(self) -> None:
        """Stop it from answering until it is killed."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server for all tests that leave it alone; they flush it."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server the test may kill."""
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(folder)
    server.start()
    yield server
    server.kill()


class Driver:
    """The store's verbs as a test wants to say them: one operation, awaited, charged to one lease."""

    LEASE = 7

    def __init__(self, store: Store) -> None:
        self.store = store
        self.break_it: Callable[[], Awaitable[None]]
        self.now_ms = NOW_MS
        self.epochs: list[int] = []

    async def begin(self) -> None:
        self.epochs = [await usage.begin_epoch() for usage in self.store.usage_stores]

    async def namespace(
        self, name: str = "CACHE", *, service: str = "service_1", account: str = "account_1", allowance: int = UNLIMITED
    ) -> Namespace:
        draft = Namespace(new_id("kv"), name, service, account, self.now_ms)
        await self.store.create(draft)
        for usage in self.store.usage_stores:
            await usage.set_allowance(account, METER, 1, allowance)
        found = await self.store.find(service, name)
        assert found is not None
        return found

    def charged(self, namespace: Namespace, mutation: Mutation) -> Mutation:
        mutation.namespace = namespace
        mutation.epoch = self.epochs[self.store.partition(namespace.service_id, mutation.key)]
        mutation.lease_id = self.LEASE
        return mutation

    async def apply(self, mutations: Sequence[Mutation]) -> list[Result]:
        loop = asyncio.get_running_loop()
        futures = []
        for mutation in mutations:
            future: asyncio.Future[Result] = loop.create_future()
            mutation.done = future.set_result
            futures.append(future)
        self.store.apply(mutations, self.now_ms)
        return list(await asyncio.wait_for(asyncio.gather(*futures), 20))

    def put_of(self, namespace: Namespace, key: bytes, value: bytes) -> Mutation:
        return self.charged(namespace, Put(key, value, "text", b"", "", ""))

    def delete_of(self, namespace: Namespace, key: bytes) -> Mutation:
        return self.charged(namespace, Delete(key, "", ""))

    async def put(
        self,
        namespace: Namespace,
        key: bytes,
        value: bytes | Upload,
        *,
        metadata: bytes = b"",
        expires_at: int = 0,
        if_match: str = "",
        if_none_match: str = "",
        encoding: str = "text",
    ) -> Result:
        put = Put(key, value, encoding, metadata, if_match, if_none_match)
        put.expires_at = expires_at
        return (await self.apply([self.charged(namespace, put)]))[0]

    async def delete(self, namespace: Namespace, key: bytes, *, if_match: str = "") -> Result:
        return (await self.apply([self.charged(namespace, Delete(key, if_match, ""))]))[0]

    async def get_all(self, namespace: Namespace, keys: Sequence[bytes]) -> list[Found]:
        loop = asyncio.get_running_loop()
        futures = []
        lookups = []
        for key in keys:
            future: asyncio.Future[Found] = loop.create_future()
            futures.append(future)
            lookups.append(Lookup(namespace, key, future.set_result))
        self.store.read(lookups, self.now_ms)
        return list(await asyncio.wait_for(asyncio.gather(*futures), 20))

    async def get(self, namespace: Namespace, key: bytes) -> Found:
        return (await self.get_all(namespace, [key]))[0]

    async def upload(self, namespace: Namespace, key: bytes, value: bytes) -> Upload:
        upload = await self.store.upload(namespace.service_id, key)
        for start in range(0, len(value), 256 * 1024):
            await upload.write(value[start : start + 256 * 1024])
        await upload.finish()
        return upload

    async def read_large(self, namespace: Namespace, key: bytes) -> bytes:
        opened = await self.store.open_value(namespace, key, self.now_ms)
        assert opened is not None and not isinstance(opened, Result.__args__)
        try:
            return b"".join([chunk async for chunk in opened.chunks()])
        finally:
            await opened.close()

    async def stored(self, account: str = "account_1") -> int:
        return sum([(await usage.level(account, METER)).bytes for usage in self.store.usage_stores])

    async def used(self) -> int:
        rows = [
            row
            for usage, epoch in zip(self.store.usage_stores, self.epochs, strict=True)
            for row in await usage.usage(epoch, None)
        ]
        return sum(row.units for row in rows)


@pytest.fixture
def driver() -> type[Driver]:
    """What drives a store that the test opened itself."""
    return Driver


@pytest.fixture(params=["sqlite", "redis"])
async def kv(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Driver]:
    """Both engines behind the port."""
    store: Store
    if request.param == "sqlite":
        store = sqlite = await SqliteStore.open(tmp_path / "kv")

        async def break_it() -> None:
            await sqlite.close()
    else:
        server: RedisServer
        if request.node.get_closest_marker("breaks_the_store"):
            server = request.getfixturevalue("redis_server")
        else:
            server = request.getfixturevalue("shared_redis")
            server.cli("FLUSHALL")
        store = await RedisStore.open(server.url)

        async def break_it() -> None:
            server.kill()

    driver = Driver(store)
    driver.break_it = break_it
    await driver.begin()
    yield driver
    await store.close()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "breaks_the_store: the engine's server is the test's own, to be killed")


KEY = "internal-key-of-the-tests"


class NoPlans:
    """Where this test's control tells plans; metering was told by hand."""

    async def set_plan(self, account_id: str, plan: str, revision: int) -> None:
        """Heard."""


class House:
    """KV with real control, metering and NATS around it, in this process."""

    def __init__(self) -> None:
        self.account = ""
        self.service = ""
        self.store: Store
        self.meters: Meters
        self.namespaces: Namespaces
        self.lifecycle: Lifecycle
        self.bulk: Bulk
        self.upkeep: KvUpkeep
        self.control: Channel
        self.metering: Channel
        self.channel: Channel
        self.channel_path = ""
        #: Control's purge of services that were deleted 72 hours ago.
        self.purge: Callable[[], Awaitable[None]]
        self.clock = FakeClock(time.time_ns() // 1_000_000)
        self.stops: list[Callable[[], Awaitable[object]]] = []

    async def create(self, name: str = "CACHE") -> Target:
        """A namespace, by its name."""
        await self.lifecycle.create(self.account, self.service, name)
        return Target(self.account, self.service, name)

    async def get(self, target: Target, key: bytes, etag: str = "") -> GetAnswer:
        future: asyncio.Future[GetAnswer] = asyncio.get_running_loop().create_future()
        self.namespaces.get(target, key, etag, future.set_result)
        return await asyncio.wait_for(future, 10)

    def put_soon(
        self, target: Target, key: bytes, value: bytes = b"value", *, ttl: int = 0, expires_at: int = 0, **said: str
    ) -> "asyncio.Future[WriteAnswer]":
        future: asyncio.Future[WriteAnswer] = asyncio.get_running_loop().create_future()
        put = Put(
            key,
            value,
            said.get("encoding", "text"),
            said.get("metadata", "").encode(),
            parse_condition(said.get("if_match", "")),
            parse_condition(said.get("if_none_match", "")),
        )
        self.namespaces.put(target, put, expires_at=expires_at, ttl_seconds=ttl, answer=future.set_result)
        return future

    async def put(self, *arguments: object, **said: object) -> WriteAnswer:
        return await asyncio.wait_for(self.put_soon(*arguments, **said), 10)  # type: ignore[arg-type]

    async def delete(self, target: Target, key: bytes, if_match: str = "") -> WriteAnswer:
        future: asyncio.Future[WriteAnswer] = asyncio.get_running_loop().create_future()
        self.namespaces.delete(target, Delete(key, parse_condition(if_match), ""), future.set_result)
        return await asyncio.wait_for(future, 10)

    async def cap(self, meter: str, value: int) -> None:
        request = metering_wire.PutCapRequest(
            account_id=self.account, meter=meter, period="day", cap_value=value, hard_stop=True, notify_at_percent=80
        )
        await self.metering.unary(UsageStub(self.metering.grpc).PutCap, request, timeout_s=8, retry=False)

    async def used(self, meter: str, expected: int) -> int:
        """What metering knows, once it is what is expected, or after a while."""
        request = metering_wire.GetUsageRequest(account_id=self.account)
        used = -1
        for _ in range(60):
            reply = await self.metering.unary(UsageStub(self.metering.grpc).GetUsage, request, retry=True)
            used = reply.day[meter]
            if used == expected:
                break
            await asyncio.sleep(0.1)
        return used


@pytest.fixture(params=["sqlite", "redis"])
async def house(request: pytest.FixtureRequest, tmp_path: Path, nats_url: str) -> AsyncIterator[House]:
    """The whole neighbourhood of KV over both engines."""
    house = House()
    stops = house.stops
    await _start_control(house, tmp_path)
    await _start_metering(house, tmp_path, nats_url)
    if request.param == "sqlite":
        house.store = await SqliteStore.open(tmp_path / "kv")
    else:
        server: RedisServer = request.getfixturevalue("shared_redis")
        server.cli("FLUSHALL")
        house.store = await RedisStore.open(server.url)
    notices = Notices()
    await notices.connect(nats_url)
    metered = MeteredProcess(service="kv", channel=house.metering, nats_url=nats_url, notices=notices)
    await metered.start(house.store.usage_stores)
    house.meters = metered.meters
    house.namespaces = Namespaces(house.store, house.meters, house.clock)
    house.lifecycle = Lifecycle(
        house.store, house.namespaces, Registry(house.control, kind=KIND, owner=OWNER), house.meters, house.clock
    )
    house.bulk = Bulk(house.namespaces, house.store, house.meters, house.clock)
    house.upkeep = KvUpkeep(house.store, house.namespaces, house.lifecycle)
    services = kv_registrations(house.namespaces, house.bulk, house.lifecycle)
    server = await start_server(
        f"unix:{tmp_path}/kv.sock", internal_key=KEY, services=services, exchange=kv_exchange(house.namespaces)
    )
    house.channel_path = server.target.removeprefix("unix:")
    house.channel = Channel(server.target, KEY, "kv")
    stops += [notices.close, house.store.close, metered.close, house.namespaces.close, server.stop, house.channel.close]
    yield house
    for stop in reversed(stops):
        await stop()


async def _start_control(house: House, folder: Path) -> None:
    database = await open_database(f"sqlite:///{folder}/control.db", migrations.load("tovuk_control.store"))
    clock, cursors = house.clock, Cursors(KEY.encode())

    def publish(subject: str, payload: bytes) -> None:
        """Nobody listens."""

    accounts = Accounts(database, clock, publish, cursors, asyncio.Event().set)
    services = ControlServices(database, clock, publish, cursors)
    registry, activity = RegistryNoun(database, clock), Activity(database, clock, cursors)
    house.purge = ControlUpkeep(database, clock, NoPlans(), publish).sweep
    shards = Shards(database, clock, publish)
    apis = control_registrations(Tokens(database, clock, publish), services, registry, shards, accounts, activity)
    server = await start_server(f"unix:{folder}/control.sock", internal_key=KEY, services=apis)
    house.control = Channel(server.target, KEY, "control")
    house.stops += [database.close, server.stop, house.control.close]
    request = control_wire.CreateAccountRequest(handle="ada", plan="self_hosted")
    reply = await house.control.unary(AccountsStub(house.control.grpc).CreateAccount, request, retry=False)
    house.account = reply.account.id
    service = control_wire.CreateServiceRequest(account_id=house.account, name="shop", kind="rust_worker")
    created = await house.control.unary(ServicesStub(house.control.grpc).CreateService, service, retry=False)
    house.service = created.id


async def _start_metering(house: House, folder: Path, nats_url: str) -> None:
    database = await open_database(f"sqlite:///{folder}/metering.db", migrations.load("tovuk_metering.store"))
    notices = Notices()
    await notices.connect(nats_url)
    turns = Turns(database, SystemClock(), PriceBook.load(), notices.publish)
    await turns.begin()
    upkeep = MeteringUpkeep(turns, ControlClient(house.control), UsageStream(nats_url))
    upkeep.start()
    server = await start_server(
        f"unix:{folder}/metering.sock", internal_key=KEY, services=metering_registrations(turns)
    )
    house.metering = Channel(server.target, KEY, "metering")
    house.stops += [database.close, notices.close, upkeep.close, server.stop, house.metering.close]
    plan = metering_wire.SetPlanRequest(account_id=house.account, plan="self_hosted", revision=1)
    await house.metering.unary(UsageStub(house.metering.grpc).SetPlan, plan, retry=True)


@pytest.fixture
def open_store() -> Callable[[str, Path, RedisServer | None], Awaitable[Store]]:
    """Opens a store of an engine within the test's own event loop."""

    async def open_store(engine: str, folder: Path, server: RedisServer | None) -> Store:
        return await SqliteStore.open(folder) if server is None else await RedisStore.open(server.url)

    return open_store
