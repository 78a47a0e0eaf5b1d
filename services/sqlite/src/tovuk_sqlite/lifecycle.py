"""How databases come and go: reserved in control's registry, then stored here, then confirmed; released when gone.

The catalog is the truth, the registry follows: what a crash or an unreachable control leaves between the two is settled
by `upkeep`. A deleted database is gone at once, and off the account's level at once; its files are removed later, when
metering has heard of what was written to it.
"""

import logging
import re
from collections.abc import Awaitable, Callable
from typing import Final

from tovuk_kit.clock import Clock
from tovuk_kit.errors import Outcome, TovukError
from tovuk_kit.ids import has_id_shape, new_id
from tovuk_kit.leases import Meters
from tovuk_kit.registry import Claim, Registry
from tovuk_sqlite.backups import Backups
from tovuk_sqlite.directory import Directory, Target
from tovuk_sqlite.errors import InvalidResourceName, ResourceNameTaken, ServiceNotFound
from tovuk_sqlite.files import Files
from tovuk_sqlite.room import STORAGE
from tovuk_sqlite.store.base import Catalog, Database, NameTaken, Tombstoned
from tovuk_sqlite.store.usage import FolderUsage
from tovuk_sqlite.units import STORE

#: The kind of resource, as control's registry calls it.
KIND: Final = "sqlite_database"

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")
#: Words the routes use where a name may stand. Source: decisions.md, Names and ids.
_RESERVED_NAMES = frozenset({"namespaces", "databases"})

_log = logging.getLogger(__name__)


class Lifecycle:
    """Creating, deleting and listing databases."""

    def __init__(
        self,
        catalog: Catalog,
        files: Files,
        backups: Backups,
        usage: FolderUsage,
        directory: Directory,
        registry: Registry,
        meters: Meters,
        clock: Clock,
    ) -> None:
        self._catalog = catalog
        self._files = files
        self._backups = backups
        self._usage = usage
        self._directory = directory
        self._registry = registry
        self._meters = meters
        self._clock = clock
        #: Ids that are being created here; nobody else may settle them.
        self._creating: set[str] = set()

    async def create(self, account_id: str, service_id: str, name: str) -> Database:
        """A new database, durable and registered.

        Raises InvalidResourceName, ServiceNotFound, ResourceNameTaken, and what control's registry says.
        """
        if _NAME.fullmatch(name) is None or has_id_shape(name) or name in _RESERVED_NAMES:
            raise InvalidResourceName
        database = Database(new_id("sqlite"), name, service_id, account_id, self._clock.wall_ms())
        claim = _claim(database)
        self._creating.add(database.id)
        try:
            await self._registry.reserve(account_id, claim)
            try:
                size = await self._files.create(database)
                await self._catalog.create(database, size)
            except (Tombstoned, NameTaken, TovukError) as error:
                if not isinstance(error, TovukError) or error.outcome is not Outcome.UNKNOWN:
                    await self._files.remove(database.id)
                    await self._tell(self._registry.release, claim)
                if isinstance(error, Tombstoned):
                    raise ServiceNotFound from error
                if isinstance(error, NameTaken):
                    raise ResourceNameTaken(kind="SQLite database") from error
                raise
            self._usage.resize(database, size)
            self._meters.level_changed(STORE, account_id, STORAGE)
            await self._tell(self._registry.confirm, claim)
        finally:
            self._creating.discard(database.id)
        return database

    async def delete(self, target: Target) -> Database:
        """The database that is gone. Raises DatabaseNotFound."""
        database = await self._directory.resolve(target)
        await self._drop(database)
        await self._tell(self._registry.release, _claim(database))
        return database

    async def list(self, service_id: str) -> list[Database]:
        """The service's databases by name."""
        if self._directory.settle is not None:
            await self._directory.settle(service_id)
        return await self._catalog.databases(service_id)

    async def finish_deletions(self) -> None:
        """Bring every deletion that was begun to its end: registry, files, last trace."""
        for database in await self._catalog.dropped():
            # Again, for one whose deletion was interrupted.
            await self._drop(database)
            await self._registry.release(_claim(database))
            if self._usage.has_usage(database) or not await self._backups.forget(database):
                continue
            await self._files.remove(database.id)
            await self._catalog.forget(database)

    async def settle(self) -> None:
        """Tell the registry of claims it holds open whether they exist."""
        for claim in await self._registry.unsettled():
            if claim.resource_id in self._creating:
                continue
            if await self._catalog.find(claim.service_id, claim.resource_id) is None:
                await self._registry.release(claim)
            else:
                await self._registry.confirm(claim)

    async def bury_services(self) -> None:
        """Remove everything of purged services, and acknowledge."""
        for service_id in await self._registry.tombstones():
            for database in await self._catalog.entomb(service_id):
                await self._drop(database)
            await self.finish_deletions()
            await self._registry.acknowledge(service_id)

    async def _drop(self, database: Database) -> None:
        await self._catalog.drop(database)
        self._directory.forget(database)
        if self._usage.resize(database, None):
            self._meters.level_changed(STORE, database.account_id, STORAGE)

    @staticmethod
    async def _tell(call: Callable[[Claim], Awaitable[None]], claim: Claim) -> None:
        try:
            await call(claim)
        except TovukError as error:
            _log.warning("the registry will be told later of %s: %s", claim.resource_id, error)


def _claim(database: Database) -> Claim:
    return Claim(database.service_id, database.id, database.name)
