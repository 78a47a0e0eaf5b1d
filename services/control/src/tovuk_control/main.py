"""Composition root: settings, database, nouns, servicers, upkeep. `migrate [version]` changes the schema and ends."""

import argparse
import sys

from tovuk_control.api import registrations
from tovuk_control.clients.metering import MeteringClient
from tovuk_control.project.account import Accounts
from tovuk_control.project.activity import Activity
from tovuk_control.project.bootstrap import bootstrap
from tovuk_control.project.page import Cursors
from tovuk_control.project.registry import Registry
from tovuk_control.project.service import Services
from tovuk_control.project.shards import Shards
from tovuk_control.project.token import Tokens
from tovuk_control.settings import Settings
from tovuk_control.store.accounts import exists_any
from tovuk_control.upkeep import Upkeep
from tovuk_kit import migrations, telemetry
from tovuk_kit.client import Channel
from tovuk_kit.clock import SystemClock
from tovuk_kit.engines import open_database
from tovuk_kit.notices import Notices
from tovuk_kit.server import run, serve
from tovuk_kit.settings import load


async def _serve(settings: Settings) -> None:
    internal_key = settings.internal_key.get_secret_value()
    clock = SystemClock()
    database = await open_database(settings.database_url, migrations.load("tovuk_control.store"))
    notices = Notices()
    await notices.connect(settings.nats_url)
    await bootstrap(
        database,
        clock,
        notices.publish,
        chosen=settings.bootstrap_token.get_secret_value(),
        file=settings.bootstrap_file,
    )
    metering = Channel(settings.metering_target, internal_key, "metering")
    upkeep = Upkeep(database, clock, MeteringClient(metering), notices.publish)
    cursors = Cursors(internal_key.encode())
    services = registrations(
        Tokens(database, clock, notices.publish),
        Services(database, clock, notices.publish, cursors),
        Registry(database, clock),
        Shards(database, clock, notices.publish),
        Accounts(database, clock, notices.publish, cursors, upkeep.posted),
        Activity(database, clock, cursors),
    )

    async def ready() -> bool:
        return await database.read(exists_any)

    async def stop() -> None:
        await upkeep.close()
        await metering.close()
        await notices.close()
        await database.close()

    upkeep.start()
    await serve(settings=settings, services=services, ready=ready, stop=stop)


async def _migrate(settings: Settings, target: int | None) -> None:
    database = await open_database(settings.database_url, ())
    try:
        await migrations.migrate(database, migrations.load("tovuk_control.store"), target)
    finally:
        await database.close()


def main() -> None:
    """Run control, or migrate its database."""
    parser = argparse.ArgumentParser(prog="tovuk-control")
    commands = parser.add_subparsers(dest="command")
    migrate = commands.add_parser("migrate", help="bring the schema to a version, the newest by default, and end")
    migrate.add_argument("version", type=int, nargs="?")
    arguments = parser.parse_args(sys.argv[1:])
    settings = load(Settings)
    telemetry.configure("control", settings)
    try:
        run(_migrate(settings, arguments.version) if arguments.command == "migrate" else _serve(settings))
    except migrations.MigrationError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
