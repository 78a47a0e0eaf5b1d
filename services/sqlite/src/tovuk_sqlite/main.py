"""Composition root: settings, engine, catalog, metering, nouns, servicers, upkeep."""

from tovuk_kit import telemetry
from tovuk_kit.client import Channel
from tovuk_kit.clock import SystemClock
from tovuk_kit.metering import MeteredProcess
from tovuk_kit.notices import Notices
from tovuk_kit.server import run, serve
from tovuk_kit.settings import load
from tovuk_sqlite.api import registrations
from tovuk_sqlite.clients.control import ControlRegistry
from tovuk_sqlite.crew import Crew
from tovuk_sqlite.database import Databases
from tovuk_sqlite.files import Files
from tovuk_sqlite.lifecycle import Lifecycle
from tovuk_sqlite.settings import Settings
from tovuk_sqlite.store.catalog import SqliteCatalog
from tovuk_sqlite.store.stock import StockEngine
from tovuk_sqlite.store.usage import FolderUsage
from tovuk_sqlite.upkeep import Upkeep


async def _serve(settings: Settings) -> None:
    internal_key = settings.internal_key.get_secret_value()
    engine = StockEngine()
    catalog = await SqliteCatalog.open(settings.data_dir)
    crew = Crew(settings.threads)
    files = Files(engine, crew, settings.data_dir)
    usage = FolderUsage(catalog, files.writing)
    await usage.load()
    notices = Notices()
    await notices.connect(settings.nats_url)
    metering = Channel(settings.metering_target, internal_key, "metering")
    control = Channel(settings.control_target, internal_key, "control")
    metered = MeteredProcess(service="sqlite", channel=metering, nats_url=settings.nats_url, notices=notices)
    await metered.start([usage])
    databases = Databases(catalog, files, usage, metered.meters)
    lifecycle = Lifecycle(
        catalog, files, usage, databases.directory, ControlRegistry(control), metered.meters, SystemClock()
    )
    upkeep = Upkeep(lifecycle, files)

    async def ready() -> bool:
        await catalog.check()
        return True

    async def stop() -> None:
        await upkeep.close()
        await databases.close()
        await metered.close()
        await control.close()
        await metering.close()
        await notices.close()
        await files.close()
        await crew.close()
        await catalog.close()

    upkeep.start()
    services = registrations(databases, lifecycle, rows_read_exact=engine.rows_read_exact)
    await serve(settings=settings, services=services, ready=ready, stop=stop)


def main() -> None:
    """Run the sqlite service."""
    settings = load(Settings)
    telemetry.configure("sqlite", settings)
    run(_serve(settings))


if __name__ == "__main__":
    main()
