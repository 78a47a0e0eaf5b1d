"""Which database a caller means, remembered until somebody finds it gone."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from tovuk_sqlite.errors import DatabaseBusy, DatabaseNotFound
from tovuk_sqlite.limits import DATABASE_CACHE_ENTRIES_MAX, GATE_SECONDS_MAX
from tovuk_sqlite.store.base import Catalog, Database


class Target(NamedTuple):
    """The database a caller means: an id or a name within a service of an account."""

    account_id: str
    service_id: str
    ref: str


class Directory:
    """The databases that were asked for. This process owns the catalog, so what it forgets nobody remembers."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._known: dict[tuple[str, str], Database] = {}
        self._held: dict[str, asyncio.Event] = {}
        #: Asked, with the service's id, before one of its databases is called absent: it may have just moved here.
        self.settle: Callable[[str], Awaitable[None]] | None = None

    def known(self, target: Target) -> Database | None:
        """The database that is meant, if it is remembered."""
        database = self._known.get((target.service_id, target.ref))
        return database if database is not None and database.account_id == target.account_id else None

    async def resolve(self, target: Target) -> Database:
        """The database that is meant; raises DatabaseNotFound, the same for absent and foreign ones."""
        place = (target.service_id, target.ref)
        database = self._known.get(place)
        if database is None:
            database = await self._find(*place)
            if len(self._known) >= DATABASE_CACHE_ENTRIES_MAX:
                self._known.pop(next(iter(self._known)))
            self._known[place] = database
        if database.account_id != target.account_id:
            raise DatabaseNotFound
        return database

    @asynccontextmanager
    async def held(self, database: Database) -> AsyncIterator[None]:
        """Meanwhile nobody learns which database is meant: whoever asks waits, and is told how it is afterwards."""
        released = self._held[database.service_id] = asyncio.Event()
        self.forget(database)
        try:
            yield
        finally:
            del self._held[database.service_id]
            released.set()

    async def _find(self, service_id: str, ref: str) -> Database:
        settled = self.settle is None
        while True:
            released = self._held.get(service_id)
            if released is not None:
                await _until(released)
                continue
            database = await self._catalog.find(service_id, ref)
            if database is not None:
                return database
            if settled or self.settle is None:
                raise DatabaseNotFound
            await self.settle(service_id)
            settled = True

    def forget(self, database: Database) -> None:
        """Look the database up again before it is used."""
        self._known.pop((database.service_id, database.id), None)
        self._known.pop((database.service_id, database.name), None)


async def _until(released: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(GATE_SECONDS_MAX):
            await released.wait()
    except TimeoutError:
        raise DatabaseBusy(retry_after_ms=1_000) from None
