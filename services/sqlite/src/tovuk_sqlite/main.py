"""Composition root: settings, engine, catalog, metering, nouns, servicers, upkeep."""

import argparse
import logging
import secrets
import sys
from contextlib import AsyncExitStack
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tovuk_kit import telemetry
from tovuk_kit.client import Channel
from tovuk_kit.clock import SystemClock
from tovuk_kit.errors import TovukError
from tovuk_kit.metering import MeteredProcess
from tovuk_kit.notices import Notices
from tovuk_kit.registry import Registry
from tovuk_kit.server import run, serve
from tovuk_kit.settings import load
from tovuk_kit.sqlite import FileInUse
from tovuk_sqlite.api import exchange, registrations
from tovuk_sqlite.backups import Backups
from tovuk_sqlite.clients.control import ControlMoves, ControlShard
from tovuk_sqlite.clients.shard import OtherShard
from tovuk_sqlite.crew import Crew
from tovuk_sqlite.database import Databases
from tovuk_sqlite.files import Files
from tovuk_sqlite.gates import Gates
from tovuk_sqlite.history import History
from tovuk_sqlite.lifecycle import KIND, Lifecycle
from tovuk_sqlite.moves import Moves
from tovuk_sqlite.ownership import Ownership
from tovuk_sqlite.recovery import recover
from tovuk_sqlite.settings import Settings
from tovuk_sqlite.shipping import Shipping
from tovuk_sqlite.short import Shorts
from tovuk_sqlite.store.archive import Archive
from tovuk_sqlite.store.base import Engine
from tovuk_sqlite.store.catalog import SqliteCatalog
from tovuk_sqlite.store.directory_archive import DirectoryArchive
from tovuk_sqlite.store.usage import FolderUsage
from tovuk_sqlite.upkeep import Upkeep

_log = logging.getLogger(__name__)


def _engine(settings: Settings) -> Engine:
    """The process loads one library of SQLite, which opens databases and the catalog."""
    if settings.engine != "stock" and (settings.engine == "native" or find_spec("tovuk_sqlite_native")):
        from tovuk_sqlite.store import native_build

        if native_build.fits():
            from tovuk_sqlite.store.native import NativeEngine

            return NativeEngine()
        if settings.engine == "native":
            sys.exit("tovuk-sqlite does not start: the native engine is of another version; run make native")
        _log.warning("the native engine is of another version and not used; run make native")
    from tovuk_sqlite.store.stock import StockEngine

    _log.info("databases are opened by stock SQLite: rows read are estimates; make native builds the exact meter")
    return StockEngine()


def _archive(settings: Settings, store_id: str) -> Archive:
    url = settings.archive_url or f"file://{settings.data_dir.absolute() / 'archive'}"
    if url.startswith("s3"):
        from tovuk_sqlite.store.s3_archive import S3Archive

        return S3Archive.at(url)
    return DirectoryArchive(Path(unquote(urlsplit(url).path)), store_id)


def _ownership(settings: Settings, catalog: SqliteCatalog, control: Channel) -> Ownership:
    claims = ControlShard(
        control,
        shard=settings.shard,
        address=settings.reached_at,
        store=catalog.store_id,
        lock=catalog.lock_id,
        holder=secrets.token_hex(16),
    )
    return Ownership(claims, SystemClock(), lasts_ms=int(settings.ownership_seconds * 1_000))


async def _catalog(settings: Settings, engine: Engine, *, lost_store_id: str = "") -> SqliteCatalog:
    try:
        return await SqliteCatalog.open(settings.data_dir, engine.library, lost_store_id=lost_store_id)
    except FileInUse as error:
        sys.exit(f"tovuk-sqlite does not start: {error}")


async def _rebuild(settings: Settings, *, accept_data_loss: bool) -> None:
    """Fill an empty folder with what the shard's lost one had shipped."""
    if not settings.archive_url:
        sys.exit(
            "there is nothing to rebuild from: TOVUK_SQLITE_ARCHIVE_URL names no archive outside of the lost folder"
        )
    engine = _engine(settings)
    async with AsyncExitStack() as opened:
        control = Channel(settings.control_target, settings.internal_key.get_secret_value(), "control")
        opened.push_async_callback(control.close)
        try:
            moves = ControlMoves(control, settings.shard)
            store_id, _ = await moves.databases()
            catalog = await _catalog(settings, engine, lost_store_id=store_id)
            opened.push_async_callback(catalog.close)
            if not catalog.unfinished:
                sys.exit(f"{settings.data_dir} is a whole folder already")
            ownership = _ownership(settings, catalog, control)
            opened.push_async_callback(ownership.close)
            await ownership.acquire()
            _, placed = await moves.databases()
            whole = await recover(
                catalog,
                engine,
                _archive(settings, catalog.store_id),
                settings.data_dir,
                placed,
                SystemClock(),
                lambda loss: print(loss.said(accepted=accept_data_loss), file=sys.stderr, flush=True),  # noqa: T201
                accept_data_loss=accept_data_loss,
            )
            if whole:
                await catalog.finish()
        except TovukError as error:
            why = f"{error} ({error.__cause__})" if error.__cause__ else str(error)
            sys.exit(f"tovuk-sqlite rebuild was stopped, and goes on when it is run again: {why}")
    if not whole:
        sys.exit(
            "tovuk-sqlite rebuild left out what is damaged, and all else is there: bring the archive in order, or"
            " accept the loss with --accept-data-loss, and run it again"
        )


async def _serve(settings: Settings) -> None:
    internal_key = settings.internal_key.get_secret_value()
    engine = _engine(settings)
    catalog = await _catalog(settings, engine)
    if catalog.unfinished:
        sys.exit("tovuk-sqlite does not start: its folder is being rebuilt; run tovuk-sqlite rebuild again")
    control = Channel(settings.control_target, internal_key, "control")
    ownership = _ownership(settings, catalog, control)
    await ownership.acquire()
    crew = Crew(settings.threads)
    archive = _archive(settings, catalog.store_id)
    history = History(engine, archive, settings.data_dir, SystemClock(), ownership.number)
    files = Files(engine, crew, history, settings.data_dir)
    usage = FolderUsage(catalog, files.writing, ownership.check)
    await usage.load()
    notices = Notices()
    await notices.connect(settings.nats_url)
    metering = Channel(settings.metering_target, internal_key, "metering")
    metered = MeteredProcess(service="sqlite", channel=metering, nats_url=settings.nats_url, notices=notices)
    await metered.start([usage])
    gates = Gates()
    databases = Databases(catalog, files, usage, metered.meters, gates)
    backups = Backups(
        catalog,
        files,
        usage,
        databases.directory,
        gates,
        history,
        archive,
        metered.meters,
        SystemClock(),
        settings.data_dir,
    )
    registry = Registry(control, kind=KIND, owner=f"sqlite/{settings.shard}", shard=settings.shard)
    lifecycle = Lifecycle(catalog, files, backups, usage, databases.directory, registry, metered.meters, SystemClock())
    shipping = Shipping(history)
    moves = Moves(
        catalog,
        files,
        usage,
        databases.directory,
        gates,
        backups,
        metered.meters,
        ControlMoves(control, settings.shard),
        ownership,
        lambda address: OtherShard(address, internal_key),
        archive,
        settings.data_dir,
    )
    upkeep = Upkeep(lifecycle, backups, databases, files, moves, ownership)

    async def ready() -> bool:
        await catalog.check()
        return ownership.holds

    async def stop() -> None:
        await upkeep.close()
        await backups.close()
        await databases.close()
        await metered.close()
        await metering.close()
        await notices.close()
        await files.close()
        await crew.close()
        await shipping.close()
        await catalog.close()
        await ownership.close()
        await control.close()

    await backups.resume()
    await moves.resume()
    shipping.start()
    upkeep.start()
    services = registrations(databases, lifecycle, backups, moves, ownership, rows_read_exact=engine.rows_read_exact)
    shorts = Shorts(databases, catalog, files, usage, metered.meters, gates)
    await serve(settings=settings, services=services, exchange=exchange(shorts, ownership), ready=ready, stop=stop)


def main() -> None:
    """Run the sqlite service, or rebuild the folder of a lost shard."""
    parser = argparse.ArgumentParser(prog="tovuk-sqlite")
    commands = parser.add_subparsers(dest="command")
    rebuild = commands.add_parser(
        "rebuild", help="fill an empty folder with what the shard's lost one had shipped, and end"
    )
    rebuild.add_argument(
        "--accept-data-loss",
        action="store_true",
        help="put databases of which something is damaged in the archive back to the newest state that is whole",
    )
    arguments = parser.parse_args()
    settings = load(Settings)
    telemetry.configure("sqlite", settings)
    if arguments.command == "rebuild":
        run(_rebuild(settings, accept_data_loss=arguments.accept_data_loss))
    else:
        run(_serve(settings))


if __name__ == "__main__":
    main()
