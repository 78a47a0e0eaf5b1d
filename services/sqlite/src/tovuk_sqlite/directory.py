"""Which database a caller means, remembered until somebody finds it gone."""

from typing import NamedTuple

from tovuk_sqlite.errors import DatabaseNotFound
from tovuk_sqlite.limits import DATABASE_CACHE_ENTRIES_MAX
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

    def known(self, target: Target) -> Database | None:
        """The database that is meant, if it is remembered."""
        database = self._known.get((target.service_id, target.ref))
        return database if database is not None and database.account_id == target.account_id else None

    async def resolve(self, target: Target) -> Database:
        """The database that is meant; raises DatabaseNotFound, the same for absent and foreign ones."""
        place = (target.service_id, target.ref)
        database = self._known.get(place)
        if database is None:
            database = await self._catalog.find(*place)
            if database is None:
                raise DatabaseNotFound
            if len(self._known) >= DATABASE_CACHE_ENTRIES_MAX:
                self._known.pop(next(iter(self._known)))
            self._known[place] = database
        if database.account_id != target.account_id:
            raise DatabaseNotFound
        return database

    def forget(self, database: Database) -> None:
        """Look the database up again before it is used."""
        self._known.pop((database.service_id, database.id), None)
        self._known.pop((database.service_id, database.name), None)
