"""The registry of resources: names, places under the ceilings, and tombstones, exact because they are in one place."""

import re
from typing import Final

from tovuk_control.errors import (
    InvalidRequest,
    InvalidResourceName,
    ReservationNotFound,
    ResourceLimitReached,
    ResourceNameTaken,
    ResourcePlanLimitReached,
    ServiceNotFound,
)
from tovuk_control.limits import PLAN_RESOURCES_MAX, REGISTRY_PAGE, SERVICE_RESOURCES_MAX, UNSETTLED_MS
from tovuk_control.project import activity
from tovuk_control.project.lookup import find_account, find_service
from tovuk_control.store import resources as table
from tovuk_control.store import shards as shards_table
from tovuk_control.store.resources import Resource
from tovuk_kit.clock import Clock
from tovuk_kit.database import Database, Tx
from tovuk_kit.ids import has_id_shape

#: Kinds, and what activity calls them.
KINDS: Final = {
    "kv_namespace": "namespace",
    "sqlite_database": "database",
    "queue": "queue",
    "state_namespace": "state_namespace",
    "service_binding": "binding",
    "cron_trigger": "cron_trigger",
}

#: Kinds the ceiling of a service counts. Source: decisions, 5,000 resources per service.
COUNTED_KINDS: Final = ("kv_namespace", "sqlite_database", "queue", "state_namespace", "service_binding")

#: Services that keep resources and so have something to purge. A new owner adds its name.
OWNERS: Final = ("kv",)
#: The kind whose resources lie at shards, each of which is an owner by itself, and what these owners' names begin with.
SHARDED_KIND: Final = "sqlite_database"
SHARDED_OWNER: Final = "sqlite/"

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")
#: Words the routes use where a name may stand. Source: decisions, Names and ids.
_RESERVED_NAMES: Final = frozenset({"namespaces", "databases"})


class Registry:
    """Claims of resources by their owners."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def reserve(
        self, account_id: str, service_id: str, kind: str, resource_id: str, name: str, *, shard: str = ""
    ) -> None:
        """Claim a name and a place; the same claim again is the same. A database's claim names its shard.

        Raises InvalidRequest, InvalidResourceName, ServiceNotFound, ResourceNameTaken, ResourceLimitReached,
        ResourcePlanLimitReached.
        """
        _check_claim(kind, resource_id)
        if (kind == SHARDED_KIND) != bool(shard):
            raise InvalidRequest(reason="databases lie at shards, and nothing else does")
        if _NAME.fullmatch(name) is None or has_id_shape(name) or name in _RESERVED_NAMES:
            raise InvalidResourceName
        suffix = name.upper().replace("-", "_")
        claim = Resource(resource_id, account_id, service_id, kind, name, suffix, self._clock.wall_ms())

        def work(tx: Tx) -> None:
            tx.lock(f"account:{account_id}")
            if not has_id_shape(service_id):
                raise ServiceNotFound
            service = find_service(tx, account_id, service_id)
            plan = find_account(tx, service.account_id).plan
            known = table.get(tx, resource_id)
            if known is not None:
                if (known.service_id, known.kind, known.name) != (service_id, kind, name):
                    raise InvalidRequest(reason="the resource's id belongs to another claim")
                return
            if table.suffix_taken(tx, service_id, kind, suffix):
                raise ResourceNameTaken(kind=kind)
            if kind in COUNTED_KINDS and table.count_in_service(tx, service_id, COUNTED_KINDS) >= SERVICE_RESOURCES_MAX:
                raise ResourceLimitReached(limit=SERVICE_RESOURCES_MAX)
            limit = PLAN_RESOURCES_MAX.get((plan, kind))
            if limit is not None and table.count_in_account(tx, account_id, kind) >= limit:
                raise ResourcePlanLimitReached(plan=plan, limit=limit, kind=kind)
            table.insert(tx, claim)
            if shard:
                if shards_table.get(tx, shard) is None:
                    raise InvalidRequest(reason="there is no such shard")
                shards_table.place(tx, resource_id, shard)

        await self._database.write(work)

    async def confirm(self, service_id: str, kind: str, resource_id: str) -> None:
        """The owner has the resource; again is the same. Raises InvalidRequest, ReservationNotFound."""
        _check_claim(kind, resource_id, service_id)
        now_ms = self._clock.wall_ms()

        def work(tx: Tx) -> None:
            claim = table.get(tx, resource_id)
            if claim is None or (claim.service_id, claim.kind) != (service_id, kind):
                raise ReservationNotFound
            if table.confirm(tx, resource_id, now_ms):
                event = f"{KINDS[kind]}_created"
                activity.record(
                    tx, claim.account_id, event, now_ms, service_id=service_id, id=resource_id, name=claim.name
                )
            elif table.get(tx, resource_id) is None:
                # Another transaction released it between the two statements.
                raise ReservationNotFound

        await self._database.write(work)

    async def release(self, service_id: str, kind: str, resource_id: str) -> None:
        """The owner does not have the resource, or no longer; again is the same. Raises InvalidRequest."""
        _check_claim(kind, resource_id, service_id)
        now_ms = self._clock.wall_ms()

        def work(tx: Tx) -> None:
            claim = table.release(tx, resource_id, service_id, kind)
            if claim is not None and kind == SHARDED_KIND:
                shards_table.unplace(tx, resource_id)
            if claim is not None and claim.confirmed_at_ms:
                event = f"{KINDS[kind]}_deleted"
                activity.record(
                    tx, claim.account_id, event, now_ms, service_id=service_id, id=resource_id, name=claim.name
                )

        await self._database.write(work)

    async def unsettled(self, kind: str, shard: str = "") -> list[Resource]:
        """Claims older than a minute that are not confirmed, oldest first, for the owner to settle; of one shard's.

        Raises InvalidRequest.
        """
        _check_kind(kind)
        before_ms = self._clock.wall_ms() - UNSETTLED_MS
        return await self._database.read(lambda tx: table.unsettled(tx, kind, before_ms, REGISTRY_PAGE, shard))

    async def tombstones(self, owner: str) -> list[str]:
        """Purged services the owner has not acknowledged, oldest first. Raises InvalidRequest."""
        _check_owner(owner)
        return await self._database.read(lambda tx: table.tombstones(tx, owner, REGISTRY_PAGE))

    async def acknowledge(self, owner: str, service_id: str) -> None:
        """The owner has nothing left of a purged service; again is the same. Raises InvalidRequest."""
        _check_owner(owner)
        _check_ids(service_id)
        await self._database.write(lambda tx: table.drop_tombstone(tx, owner, service_id))


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise InvalidRequest(reason="there is no such kind of resource")


def _check_claim(kind: str, *ids: str) -> None:
    _check_kind(kind)
    _check_ids(*ids)


def _check_ids(*ids: str) -> None:
    if not all(map(has_id_shape, ids)):
        raise InvalidRequest(reason="an id has not the shape of one")


def _check_owner(owner: str) -> None:
    if owner not in OWNERS and not owner.startswith(SHARDED_OWNER):
        raise InvalidRequest(reason="there is no such owner of resources")
