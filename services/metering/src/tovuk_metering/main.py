"""Composition root: settings, database, price book, servicers, upkeep; or `migrate [version]`."""

import argparse
import logging
import sys

from tovuk_kit import migrations, telemetry
from tovuk_kit.client import Channel
from tovuk_kit.clock import SystemClock
from tovuk_kit.engines import open_database
from tovuk_kit.notices import Notices
from tovuk_kit.pipe import SilentPipe, UnsafePipe, check_pipe
from tovuk_kit.server import run, serve
from tovuk_kit.settings import load
from tovuk_metering.api import registrations
from tovuk_metering.clients.control import ControlClient
from tovuk_metering.clients.usage_stream import UsageStream
from tovuk_metering.meter.prices import PriceBook
from tovuk_metering.meter.turn import Turns
from tovuk_metering.settings import Settings
from tovuk_metering.upkeep import Upkeep

_log = logging.getLogger(__name__)


async def _serve(settings: Settings) -> None:
    if settings.nats_monitor_url:
        try:
            await check_pipe(settings.nats_monitor_url)
        except SilentPipe as problem:
            # Usage is shown late while NATS is away; leases are granted all the same.
            _log.warning("%s", problem)
    elif settings.nats_url:
        _log.warning("whether NATS keeps what it acknowledges is not checked: TOVUK_NATS_MONITOR_URL is not set")
    book = PriceBook.load()
    # Usage goes on being metered while a full disk refuses what is metered.
    database = await open_database(settings.database_url, migrations.load("tovuk_metering.store"), essential=True)
    notices = Notices()
    await notices.connect(settings.nats_url)
    turns = Turns(database, SystemClock(), book, notices.publish)
    await turns.begin()
    control = Channel(settings.control_target, settings.internal_key.get_secret_value(), "control")
    upkeep = Upkeep(turns, ControlClient(control), UsageStream(settings.nats_url) if settings.nats_url else None)

    async def stop() -> None:
        await upkeep.close()
        await control.close()
        await notices.close()
        await database.close()

    upkeep.start()
    await serve(settings=settings, services=registrations(turns), ready=turns.is_serving, stop=stop)


async def _migrate(settings: Settings, target: int | None) -> None:
    database = await open_database(settings.database_url, ())
    try:
        await migrations.migrate(database, migrations.load("tovuk_metering.store"), target)
    finally:
        await database.close()


def main() -> None:
    """Run metering, or migrate its database."""
    parser = argparse.ArgumentParser(prog="tovuk-metering")
    commands = parser.add_subparsers(dest="command")
    migrate = commands.add_parser("migrate", help="bring the schema to a version, the newest by default, and end")
    migrate.add_argument("version", type=int, nargs="?")
    arguments = parser.parse_args(sys.argv[1:])
    settings = load(Settings)
    telemetry.configure("metering", settings)
    if arguments.command == "migrate":
        run(_migrate(settings, arguments.version))
        return
    try:
        run(_serve(settings))
    except UnsafePipe as problem:
        _log.error("%s", problem)
        sys.exit(2)


if __name__ == "__main__":
    main()
