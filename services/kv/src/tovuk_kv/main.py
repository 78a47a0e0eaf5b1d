"""Composition root: settings, engine, metering, nouns, servicers, upkeep."""

import sys
from typing import assert_never

from tovuk_kit import telemetry
from tovuk_kit.client import Channel
from tovuk_kit.clock import SystemClock
from tovuk_kit.errors import StoreUnavailable
from tovuk_kit.metering import MeteredProcess
from tovuk_kit.notices import Notices
from tovuk_kit.registry import Registry
from tovuk_kit.server import run, serve
from tovuk_kit.settings import load
from tovuk_kv.api import exchange, registrations
from tovuk_kv.bulk import Bulk
from tovuk_kv.lifecycle import KIND, OWNER, Lifecycle
from tovuk_kv.namespace import Namespaces
from tovuk_kv.settings import RedisEngine, Settings, SqliteEngine
from tovuk_kv.store.base import Store
from tovuk_kv.upkeep import Upkeep


async def _open_store(engine: SqliteEngine | RedisEngine) -> Store:
    match engine:
        case SqliteEngine(data_dir):
            from tovuk_kv.store.sqlite import SqliteStore

            return await SqliteStore.open(data_dir)
        case RedisEngine(url):
            from tovuk_kv.store.redis import PartitionsDiffer, RedisStore
            from tovuk_kv.store.redis_connection import SettingsRefused

            try:
                return await RedisStore.open(url)
            except (SettingsRefused, PartitionsDiffer) as error:
                sys.exit(f"tovuk-kv does not start: {error}")
            except StoreUnavailable:
                sys.exit("tovuk-kv does not start: Redis cannot be reached at TOVUK_KV_REDIS_URL")
        case _:
            assert_never(engine)


async def _serve(settings: Settings) -> None:
    internal_key = settings.internal_key.get_secret_value()
    clock = SystemClock()
    store = await _open_store(settings.store)
    notices = Notices()
    await notices.connect(settings.nats_url)
    metering = Channel(settings.metering_target, internal_key, "metering")
    control = Channel(settings.control_target, internal_key, "control")
    metered = MeteredProcess(service="kv", channel=metering, nats_url=settings.nats_url, notices=notices)
    await metered.start(store.usage_stores)
    namespaces = Namespaces(store, metered.meters, clock)
    registry = Registry(control, kind=KIND, owner=OWNER)
    lifecycle = Lifecycle(store, namespaces, registry, metered.meters, clock)
    bulk = Bulk(namespaces, store, metered.meters, clock)
    upkeep = Upkeep(store, namespaces, lifecycle)

    async def ready() -> bool:
        await store.check()
        return True

    async def stop() -> None:
        await upkeep.close()
        await namespaces.close()
        await metered.close()
        await control.close()
        await metering.close()
        await notices.close()
        await store.close()

    upkeep.start()
    await serve(
        settings=settings,
        services=registrations(namespaces, bulk, lifecycle),
        exchange=exchange(namespaces),
        ready=ready,
        stop=stop,
    )


def main() -> None:
    """Run KV."""
    settings = load(Settings)
    telemetry.configure("kv", settings)
    run(_serve(settings))


if __name__ == "__main__":
    main()
