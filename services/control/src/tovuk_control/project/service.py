"""Services: created without a deploy, deleted with 72 hours to undo it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from tovuk_control.errors import (
    InvalidCapabilities,
    InvalidServiceKind,
    InvalidServiceName,
    ResourcePlanLimitReached,
    ServiceLimitReached,
    ServiceNameTaken,
    ServiceNotFound,
    ServiceNotRestorable,
)
from tovuk_control.limits import PLAN_RESOURCES_MAX, SERVICE_UNDO_MS, SERVICES_MAX, SERVICES_PAGE, Plan
from tovuk_control.project import activity
from tovuk_control.project.changes import Publish, callers_changed, services_changed
from tovuk_control.project.lookup import SERVICE_NAME, find_account, find_service
from tovuk_control.project.page import Cursors
from tovuk_control.store import resources as resources_table
from tovuk_control.store import services as table
from tovuk_control.store.services import Service
from tovuk_kit.capabilities import CAPABILITIES
from tovuk_kit.clock import Clock
from tovuk_kit.database import Database, Tx
from tovuk_kit.ids import has_id_shape, new_id

_ALWAYS_ON: Final = ("logs", "builds", "usage_caps", "billing", "support", "abuse")

#: Of these two, what each kind has.
_OF_KIND: Final[dict[str, dict[str, bool]]] = {
    "rust_worker": {"static_frontend": False, "worker": True},
    "static_frontend": {"static_frontend": True, "worker": False},
    "fullstack": {"static_frontend": True, "worker": True},
}


class Services:
    """The services of accounts."""

    def __init__(self, database: Database, clock: Clock, publish: Publish, cursors: Cursors) -> None:
        self._database = database
        self._clock = clock
        self._publish = publish
        self._cursors = cursors

    async def resolve(self, account_id: str, ref: str) -> Service:
        """The living service of an id or a name. Raises ServiceNotFound."""
        return await self._database.read(lambda tx: find_service(tx, account_id, ref))

    async def create(self, account_id: str, name: str, kind: str, capabilities: Mapping[str, bool]) -> Service:
        """A new service.

        Raises InvalidServiceName, InvalidServiceKind, InvalidCapabilities, AccountNotFound, ServiceNameTaken,
        ServiceLimitReached.
        """
        if SERVICE_NAME.fullmatch(name) is None:
            raise InvalidServiceName
        enabled = _enabled(kind, capabilities)
        now_ms = self._clock.wall_ms()
        service = Service(new_id("service"), account_id, name, kind, enabled, now_ms)

        def work(tx: Tx) -> None:
            plan = _plan_of(tx, account_id)
            if table.living_by_name(tx, account_id, name) is not None:
                raise ServiceNameTaken
            _check_room(tx, account_id, plan)
            table.insert(tx, service)
            activity.record(tx, account_id, "service_created", now_ms, service_id=service.id, name=name, kind=kind)

        await self._database.write(work)
        services_changed(self._publish, account_id)
        return service

    async def page(self, account_id: str, *, deleted: bool, cursor: str) -> tuple[list[Service], str]:
        """Living services, or deleted ones that can come back, oldest first, and the next page's cursor.

        Raises AccountNotFound, InvalidCursor.
        """
        listing = "deleted" if deleted else "services"
        after = (-1, "")
        if cursor:
            created_at_ms, _, service_id = self._cursors.read(listing, account_id, cursor).partition(" ")
            after = (int(created_at_ms), service_id)
        now_ms = self._clock.wall_ms()

        def work(tx: Tx) -> list[Service]:
            find_account(tx, account_id)
            limit = SERVICES_PAGE + 1
            return table.page(tx, account_id, deleted=deleted, purge_after_ms=now_ms, after=after, limit=limit)

        services = await self._database.read(work)
        more = len(services) > SERVICES_PAGE
        services = services[:SERVICES_PAGE]
        position = f"{services[-1].created_at_ms} {services[-1].id}" if more else ""
        return services, self._cursors.write(listing, account_id, position) if more else ""

    async def delete(self, account_id: str, ref: str) -> Service:
        """Hide a service and free its name; it is purged in 72 hours. Raises ServiceNotFound."""
        now_ms = self._clock.wall_ms()
        purge_at_ms = now_ms + SERVICE_UNDO_MS

        def work(tx: Tx) -> Service:
            tx.lock(f"account:{account_id}")
            service = find_service(tx, account_id, ref)
            table.delete(tx, service.id, now_ms, purge_at_ms)
            activity.record(tx, account_id, "service_deleted", now_ms, service_id=service.id, name=service.name)
            return service

        service = await self._database.write(work)
        self._changed(account_id)
        return replace(service, deleted_at_ms=now_ms, purge_at_ms=purge_at_ms)

    async def restore(self, account_id: str, service_id: str) -> Service:
        """Bring a deleted service back; a living one is left as it is.

        Raises ServiceNotFound, ServiceNotRestorable, ServiceLimitReached, ResourcePlanLimitReached.
        """
        now_ms = self._clock.wall_ms()

        def work(tx: Tx) -> Service:
            plan = _plan_of(tx, account_id)
            service = table.by_id(tx, account_id, service_id) if has_id_shape(service_id) else None
            if service is None:
                raise ServiceNotFound
            if not service.deleted_at_ms:
                return service
            if table.living_by_name(tx, account_id, service.name) is not None:
                raise ServiceNotRestorable(reason="another service has its name now")
            _check_room(tx, account_id, plan)
            if not table.restore(tx, service_id, now_ms):
                raise ServiceNotFound
            for (limited_plan, kind), limit in PLAN_RESOURCES_MAX.items():
                if plan == limited_plan and resources_table.count_in_account(tx, account_id, kind) > limit:
                    raise ResourcePlanLimitReached(plan=plan, limit=limit, kind=kind)
            activity.record(tx, account_id, "service_restored", now_ms, service_id=service_id, name=service.name)
            return replace(service, deleted_at_ms=0, purge_at_ms=0)

        service = await self._database.write(work)
        self._changed(account_id)
        return service

    def _changed(self, account_id: str) -> None:
        services_changed(self._publish, account_id)
        callers_changed(self._publish)


def _plan_of(tx: Tx, account_id: str) -> Plan:
    """The account's plan, behind a lock under which its services are counted."""
    tx.lock(f"account:{account_id}")
    return find_account(tx, account_id).plan


def _check_room(tx: Tx, account_id: str, plan: Plan) -> None:
    if table.count_living(tx, account_id) >= SERVICES_MAX[plan]:
        raise ServiceLimitReached(plan=plan, limit=SERVICES_MAX[plan])


def _enabled(kind: str, asked: Mapping[str, bool]) -> frozenset[str]:
    """The capabilities that are on: what was asked, completed by the defaults. Source: decisions, KV; contract 5.2."""
    if kind not in _OF_KIND:
        raise InvalidServiceKind
    fixed = {**_OF_KIND[kind], **dict.fromkeys(_ALWAYS_ON, True)}
    for name, value in asked.items():
        if name not in CAPABILITIES:
            raise InvalidCapabilities(reason="there is one that is not known")
        if name in fixed and fixed[name] != value:
            raise InvalidCapabilities(reason=f"{name} must be {str(fixed[name]).lower()} for this kind")
    on = {**dict.fromkeys(CAPABILITIES, True), **asked, **fixed}
    return frozenset(name for name, value in on.items() if value)
