"""Engines for the tests: SQLite in a temporary folder, Redis as a real server of the test's own."""

import asyncio
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tovuk_kit.ids import new_id
from tovuk_kit.usage import UNLIMITED
from tovuk_kv.store.base import Delete, Found, Lookup, Mutation, Namespace, Put, Result, Store, Upload
from tovuk_kv.store.redis import RedisStore
from tovuk_kv.store.sqlite import SqliteStore

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

    def __init__(self, store: Store, break_it: Callable[[], Awaitable[None]]) -> None:
        self.store = store
        self.break_it = break_it
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

    driver = Driver(store, break_it)
    await driver.begin()
    yield driver
    await store.close()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "breaks_the_store: the engine's server is the test's own, to be killed")
