"""What Redis alone can do to us: settings, maxmemory, lost connections, forgotten scripts, death."""

import asyncio
from typing import Any

import pytest

from tovuk_kit.errors import Outcome, TovukError
from tovuk_kv.store.base import Deleted, Record, Stored
from tovuk_kv.store.redis import SCRIPTS, PartitionsDiffer, RedisStore
from tovuk_kv.store.redis_connection import SettingsRefused

METER = "kv_storage_bytes"


@pytest.fixture
async def kv(redis_server: Any, driver: Any) -> Any:
    store = await RedisStore.open(redis_server.url)
    driven = driver(store)
    await driven.begin()
    yield driven
    await store.close()


@pytest.mark.parametrize(
    ("name", "value"), [("appendonly", "no"), ("appendfsync", "everysec"), ("maxmemory-policy", "allkeys-lru")]
)
async def test_settings_that_lose_writes_are_refused_by_name(redis_server: Any, name: str, value: str) -> None:
    redis_server.cli("CONFIG", "SET", name, value)
    with pytest.raises(SettingsRefused, match=name):
        await RedisStore.open(redis_server.url)


async def test_settings_are_asserted_again_at_a_reconnect(kv: Any, redis_server: Any) -> None:
    namespace = await kv.namespace()
    redis_server.cli("CONFIG", "SET", "appendfsync", "no")
    redis_server.cli("CLIENT", "KILL", "TYPE", "normal")
    async with asyncio.timeout(10):
        while not isinstance(await kv.get(namespace, b"k"), TovukError):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    assert isinstance(await kv.get(namespace, b"k"), TovukError), "no connection to a Redis that could lose writes"
    redis_server.cli("CONFIG", "SET", "appendfsync", "always")
    assert await until_it_answers(kv, namespace) is None


async def test_another_number_of_partitions_is_refused(kv: Any, redis_server: Any) -> None:
    redis_server.cli("HSET", "{kv00}:meta", "partitions", "64")
    with pytest.raises(PartitionsDiffer):
        await RedisStore.open(redis_server.url)


async def test_at_maxmemory_puts_are_refused_and_deletes_reads_and_usage_go_on(kv: Any, redis_server: Any) -> None:
    namespace = await kv.namespace()
    await kv.put(namespace, b"k", b"value")
    used = await kv.used()
    redis_server.cli("CONFIG", "SET", "maxmemory", "1mb")
    refused = await kv.put(namespace, b"other", b"v" * 1000)
    assert isinstance(refused, TovukError)
    assert (refused.code, refused.outcome) == ("storage_full", Outcome.NOT_DONE)
    upload = await kv.store.upload("service_1", b"big")
    with pytest.raises(TovukError) as raised:
        await upload.write(b"x" * 300_000)
    assert raised.value.code == "storage_full"
    assert isinstance(await kv.get(namespace, b"k"), Record)
    put, delete = await kv.apply([kv.put_of(namespace, b"k", b"no"), kv.delete_of(namespace, b"k")])
    assert isinstance(put, TovukError) and put.code == "storage_full"
    assert delete == Deleted(existed=True)
    assert await kv.used() == used + 1
    assert await kv.stored() == 0
    redis_server.cli("CONFIG", "SET", "maxmemory", "0")
    assert isinstance(await kv.put(namespace, b"other", b"v"), Stored)


async def test_forgotten_scripts_are_sent_again(kv: Any, redis_server: Any) -> None:
    namespace = await kv.namespace()
    await kv.put(namespace, b"k", b"value")
    redis_server.cli("SCRIPT", "FLUSH")
    assert isinstance(await kv.get(namespace, b"k"), Record)
    assert isinstance(await kv.put(namespace, b"k", b"again"), Stored)
    assert await kv.used() == 2


async def test_a_lost_connection_leaves_a_write_unknown_and_is_made_again(kv: Any, redis_server: Any) -> None:
    namespace = await kv.namespace()
    redis_server.pause()
    put = asyncio.create_task(kv.put(namespace, b"k", b"value"))
    read = asyncio.create_task(kv.get(namespace, b"k"))
    await asyncio.sleep(0.05)
    redis_server.kill()
    written, found = await put, await read
    assert isinstance(written, TovukError) and (written.code, written.outcome) == ("outcome_unknown", Outcome.UNKNOWN)
    assert isinstance(found, TovukError) and found.code == "store_unavailable"
    later = await kv.put(namespace, b"k", b"value")
    assert isinstance(later, TovukError) and (later.code, later.outcome) == ("store_unavailable", Outcome.NOT_DONE)
    redis_server.start()
    async with asyncio.timeout(1):
        await until_it_answers(kv, namespace)


async def test_what_was_acknowledged_survives_a_kill_with_its_usage(kv: Any, redis_server: Any) -> None:
    namespace = await kv.namespace()
    acknowledged: set[bytes] = set()

    async def write(worker: int) -> None:
        for number in range(10_000):
            key = f"{worker}-{number}".encode()
            if not isinstance(await kv.put(namespace, key, key), Stored):
                return
            acknowledged.add(key)

    writers = [asyncio.create_task(write(worker)) for worker in range(8)]
    async with asyncio.timeout(20):
        while len(acknowledged) < 200:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    redis_server.kill()
    await asyncio.gather(*writers)
    redis_server.start()
    await until_it_answers(kv, namespace)
    keys = sorted(acknowledged)
    found = await kv.get_all(namespace, keys)
    assert [record.value for record in found] == keys
    page = await kv.store.page(namespace, b"", None, 100_000, kv.now_ms)
    assert await kv.used() == len(page) >= len(keys), "as many writes are metered as took effect"
    assert await kv.stored() == sum(2 * len(entry.key) for entry in page)


async def test_uploads_nobody_links_are_removed_after_an_hour(
    kv: Any, redis_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    namespace = await kv.namespace()
    await kv.upload(namespace, b"big", b"x" * 600_000)
    kept = await kv.upload(namespace, b"kept", b"y" * 600_000)
    assert isinstance(await kv.put(namespace, b"kept", kept), Stored)
    await kv.store.maintain()
    assert len(redis_server.cli("KEYS", "*chunk*").split()) == 6
    monkeypatch.setattr("tovuk_kv.store.redis.UPLOAD_AGE_MS", -1000)
    await kv.store.maintain()
    assert len(redis_server.cli("KEYS", "*chunk*").split()) == 3
    assert await kv.read_large(namespace, b"kept") == b"y" * 600_000


async def test_chunks_of_replaced_values_go_when_no_pin_holds_them(kv: Any, redis_server: Any) -> None:
    namespace = await kv.namespace()
    for _ in range(3):
        await kv.put(namespace, b"big", await kv.upload(namespace, b"big", b"x" * 300_000))
    assert len(redis_server.cli("KEYS", "*chunk*").split()) == 2
    opened = await kv.store.open_value(namespace, b"big", kv.now_ms)
    await kv.delete(namespace, b"big")
    assert len(redis_server.cli("KEYS", "*chunk*").split()) == 2
    await opened.close()
    for tag in {key.split(":")[0] for key in redis_server.cli("KEYS", "*:pins").split()}:
        for blob in redis_server.cli("ZRANGE", f"{tag}:pins", "0", "-1").split():
            redis_server.cli("ZADD", f"{tag}:pins", "1", blob)
        for member in redis_server.cli("ZRANGE", f"{tag}:garbage", "0", "-1").split():
            redis_server.cli("ZADD", f"{tag}:garbage", "1", member)
    await kv.store.maintain()
    assert redis_server.cli("KEYS", "*chunk*").split() == []


async def test_two_processes_share_one_redis(kv: Any, redis_server: Any, driver: Any) -> None:
    namespace = await kv.namespace()
    other = driver(await RedisStore.open(redis_server.url))
    await other.begin()
    assert other.store.cursor_key == kv.store.cursor_key
    assert [usage.name for usage in other.store.usage_stores] == [usage.name for usage in kv.store.usage_stores]
    assert not set(other.epochs) & {0} and all(a != b for a, b in zip(other.epochs, kv.epochs, strict=True))
    await kv.put(namespace, b"k", b"from one")
    assert (await other.get(namespace, b"k")).value == b"from one"
    assert isinstance(await kv.put(namespace, b"k", b"again"), Stored), "both epochs live"
    await other.store.close()


def test_scripts_that_free_or_count_may_run_at_maxmemory() -> None:
    may_not = {name for name, script in SCRIPTS.items() if script.mutates and "allow-oom" not in script.text[:60]}
    assert may_not == {"mutate", "chunk", "create"}


async def until_it_answers(kv: Any, namespace: Any) -> Any:
    async with asyncio.timeout(10):
        while isinstance(found := await kv.get(namespace, b"k"), TovukError):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return found


async def test_a_trim_leaves_held_room_alone_until_it_is_let_go(kv: Any) -> None:
    namespace = await kv.namespace(allowance=1000)
    await kv.put(namespace, b"k", b"123456789")
    usage = kv.store.usage_stores[kv.store.partition("service_1", b"k")]
    first = await kv.store.hold_room(namespace, [(b"k", 110)])
    second = await kv.store.hold_room(namespace, [(b"k", 60)])
    assert (await usage.trim_allowance("account_1", METER)).allowance == 10 + 100 + 50
    await kv.store.let_room_go("account_1", first)
    assert (await usage.trim_allowance("account_1", METER)).allowance == 10 + 50
    await kv.store.let_room_go("account_1", second)
    assert (await usage.trim_allowance("account_1", METER)).allowance == 10
