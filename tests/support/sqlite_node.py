"""The inside of one sqlite process over a data folder, with a metering that grants everything and remembers reports."""

import asyncio
import itertools
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from scripted import ScriptedMetering, unlimited

from tovuk.metering.v1 import metering_pb2 as wire
from tovuk_kit.clock import Clock, SystemClock
from tovuk_kit.ids import new_id
from tovuk_kit.leases import Meters
from tovuk_sqlite.backups import Backups
from tovuk_sqlite.crew import Crew
from tovuk_sqlite.database import Databases
from tovuk_sqlite.directory import Target
from tovuk_sqlite.files import Files
from tovuk_sqlite.gates import Gates
from tovuk_sqlite.history import History
from tovuk_sqlite.shipping import Shipping
from tovuk_sqlite.short import READS, Shorts
from tovuk_sqlite.store.archive import Archive
from tovuk_sqlite.store.backups import Backup, Restore, Status
from tovuk_sqlite.store.base import Database, Engine, NotShort, Statement
from tovuk_sqlite.store.catalog import SqliteCatalog
from tovuk_sqlite.store.directory_archive import DirectoryArchive
from tovuk_sqlite.store.usage import FolderUsage

DONE_WITHIN_S = 30.0
_POLL_S = 0.01


class GrantingMetering(ScriptedMetering):
    """No limit binds anybody."""

    def __init__(self) -> None:
        super().__init__()
        self._ids = itertools.count(1)
        #: The newest lease of each meter.
        self.leases: dict[str, int] = {}
        #: The meter of each lease.
        self.meters: dict[int, str] = {}

    async def acquire(self, request: wire.AcquireRequest) -> wire.AcquireReply:
        self.leases[request.meter] = next(self._ids)
        self.meters[self.leases[request.meter]] = request.meter
        return unlimited(self.leases[request.meter])

    async def allow(self, request: wire.AllowRequest) -> wire.AllowReply:
        return wire.AllowReply(allowance=wire.Allowance(version=next(self._ids), unlimited=True))


def engine_of(name: str) -> Engine:
    """A new engine of this name; where the native one is not built, CI fails and others skip."""
    if name == "stock":
        from tovuk_sqlite.store.stock import StockEngine

        return StockEngine()
    try:
        from tovuk_sqlite.store.native import NativeEngine
    except ModuleNotFoundError:
        missing = "the native engine is not built: make native"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return NativeEngine()


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something that is bound to come."""
    deadline = time.monotonic() + DONE_WITHIN_S
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(_POLL_S)


@dataclass
class Node:
    """A process's parts, as main puts them together."""

    catalog: SqliteCatalog
    files: Files
    usage: FolderUsage
    databases: Databases
    backups: Backups
    gates: Gates
    meters: Meters
    shorts: Shorts
    history: History
    shipping: Shipping
    archive: Archive
    metering: GrantingMetering
    data_dir: Path

    async def create(self, name: str = "DB", account: str = "account") -> Target:
        """A new database."""
        database = Database(new_id("sqlite"), name, "service", account, 0)
        size = await self.files.create(database)
        await self.catalog.create(database, size)
        self.usage.resize(database, size)
        return Target(account, "service", name)

    async def run(self, target: Target, *statements: str | tuple[str, Sequence[Any]]) -> list[Any]:
        """The rows of the last statement; all are one transaction."""
        sent = [Statement(one) if isinstance(one, str) else Statement(*one) for one in statements]
        answer = await self.databases.run(target, "self_hosted", sent, batch=True)
        rows: list[Any] = json.loads(answer)["results"][-1]["rows"]
        return rows

    async def long(
        self, target: Target, sql: str, params: Any = (), plan: str = "self_hosted", cursor: str = ""
    ) -> Any:
        """The answer to one statement, the long way."""
        statement = Statement(sql, params)
        return json.loads(await self.databases.run(target, plan, [statement], batch=False, cursor=cursor))

    async def long_batch(self, target: Target, *statements: Statement, plan: str = "self_hosted") -> Any:
        """The answer to a batch, the long way."""
        return json.loads(await self.databases.run(target, plan, statements, batch=True))

    async def short(self, target: Target, sql: str, params: Any = (), plan: str = "self_hosted") -> Any:
        """The answer to one statement that is done at once, or the error, or NotShort."""
        return await self._short(target, plan, [Statement(sql, params)], batch=False)

    async def short_batch(self, target: Target, *statements: Statement, plan: str = "self_hosted") -> Any:
        """The answer to a batch that is done at once, or the error, or NotShort."""
        return await self._short(target, plan, statements, batch=True)

    async def _short(self, target: Target, plan: str, statements: Sequence[Statement], *, batch: bool) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        reads = all(statement.sql.startswith("select") for statement in statements)
        send = self.shorts.read if reads else self.shorts.write
        send(target, plan, statements, future.set_result, batch=batch)
        answer = await asyncio.wait_for(future, DONE_WITHIN_S)
        return json.loads(answer) if isinstance(answer, bytes) else answer

    async def ask(self, target: Target, sql: str, params: Any = ()) -> Any:
        """The short answer, or else the long one, as the gateway gives it."""
        answer = await self.short(target, sql, params)
        return await self.long(target, sql, params) if isinstance(answer, NotShort) else answer

    async def until_metered(self, meter: str, units: int) -> None:
        """Wait until metering has heard of so many units, of all leases, and no more."""
        await until(lambda: self.metered(meter) >= units)
        assert self.metered(meter) == units

    def metered(self, meter: str) -> int:
        """Units metering has heard of."""
        return sum(
            total.seq for lease, total in self.metering.totals().items() if self.metering.meters.get(lease) == meter
        )

    async def backed_up(self, target: Target, plan: str = "self_hosted") -> Backup:
        """A new backup, ready or failed."""
        made = await self.backups.create(target, plan)
        return await self.until_made(target, made.id)

    async def until_made(self, target: Target, backup_id: str) -> Backup:
        """The backup once it is no longer creating."""

        async def find() -> Backup:
            return next(backup for backup in (await self.backups.list(target)).backups if backup.id == backup_id)

        return await self._until_done(find)

    async def until_restored(self, target: Target, restore_id: str) -> Restore:
        """The restore once it is no longer creating."""

        async def find() -> Restore:
            return next(restore for restore in (await self.backups.list(target)).restores if restore.id == restore_id)

        return await self._until_done(find)

    @staticmethod
    async def _until_done(find: Callable[[], Any]) -> Any:
        found = await find()
        deadline = time.monotonic() + DONE_WITHIN_S
        while found.status is Status.CREATING:
            assert time.monotonic() < deadline, found
            await asyncio.sleep(_POLL_S)
            found = await find()
        return found


@asynccontextmanager
async def sqlite_node(
    data_dir: Path, engine: Engine, *, archive: Archive | None = None, clock: Clock | None = None
) -> AsyncIterator[Node]:
    """A process over a data folder; its end is an orderly one."""
    clock = clock or SystemClock()
    archive = archive or DirectoryArchive(data_dir / "archive", "store")
    catalog = await SqliteCatalog.open(data_dir, engine.library)
    crew = Crew(8)
    history = History(engine, archive, data_dir, clock, lambda: 1)
    shipping = Shipping(history)
    files = Files(engine, crew, history, data_dir)
    usage = FolderUsage(catalog, files.writing, lambda: None)
    await usage.load()
    metering = GrantingMetering()
    meters = Meters(leases=metering, reports=metering)
    await meters.start([usage])
    gates = Gates()
    databases = Databases(catalog, files, usage, meters, gates)
    # What is short is so on a slow machine too.
    shorts = Shorts(databases, catalog, files, usage, meters, gates, replace(READS, each_s=0.2, total_s=1.0))
    backups = Backups(catalog, files, usage, databases.directory, gates, history, archive, meters, clock, data_dir)
    await backups.resume()
    shipping.start()
    try:
        yield Node(
            catalog,
            files,
            usage,
            databases,
            backups,
            gates,
            meters,
            shorts,
            history,
            shipping,
            archive,
            metering,
            data_dir,
        )
    finally:
        await backups.close()
        await databases.close()
        await meters.close()
        await files.close()
        await crew.close()
        await shipping.close()
        await catalog.close()
