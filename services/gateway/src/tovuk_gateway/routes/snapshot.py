"""What a service consists of, asked of every owner at once. An owner that cannot be reached fails the whole answer."""

import asyncio
from typing import Any

from tovuk.kv.v1 import kv_pb2 as kv
from tovuk.metering.v1 import metering_pb2 as metering
from tovuk.sqlite.v1 import sqlite_pb2 as sqlite
from tovuk_gateway.clients.control import Service
from tovuk_gateway.routes.context import Context, embedded, moment
from tovuk_kit.capabilities import CAPABILITIES
from tovuk_kit.errors import Outcome, OutcomeUnknown, ServiceUnavailable

#: A service that was made without a deploy has nothing that could run.
_NOT_DEPLOYED = "not_deployed"

_COUNTS = {
    "sqliteDatabases": "sqlite_database",
    "storageObjects": "",
    "kvNamespaces": "kv_namespace",
    "queues": "queue",
    "cronTriggers": "cron_trigger",
    "stateNamespaces": "state_namespace",
    "serviceBindings": "service_binding",
    "secrets": "",
    "customDomains": "",
}


def capabilities_of(service: Service) -> dict[str, bool]:
    """The 17 capabilities in the client's order."""
    return {name: service.capabilities.get(name, False) for name in CAPABILITIES}


def service_row(service: Service) -> dict[str, Any]:
    """A service in a list. Contract 4.1."""
    row = {
        "name": service.name,
        "serviceId": service.id,
        "kind": service.kind,
        "runtimeStatus": _NOT_DEPLOYED,
        "url": "",
        "capabilities": capabilities_of(service),
        "resources": {field: service.resource_counts.get(kind, 0) for field, kind in _COUNTS.items()},
        "createdAt": moment(service.created_at_ms),
    }
    if service.deleted_at_ms:
        row |= {"deletedAt": moment(service.deleted_at_ms), "purgeAt": moment(service.purge_at_ms)}
    return row


def service_description(service: Service) -> dict[str, Any]:
    """A service by itself. Contract 4.2."""
    description = {
        "id": service.id,
        "name": service.name,
        "kind": service.kind,
        "url": "",
        "runtime_status": _NOT_DEPLOYED,
        "capabilities": capabilities_of(service),
        "created_at": moment(service.created_at_ms),
    }
    if service.deleted_at_ms:
        description |= {"deleted_at": moment(service.deleted_at_ms), "purge_at": moment(service.purge_at_ms)}
    return description


def namespace_item(namespace: kv.Namespace) -> dict[str, Any]:
    """A KV namespace among the resources."""
    return {"id": namespace.id, "name": namespace.name, "createdAt": moment(namespace.created_at_ms)}


def database_item(database: sqlite.Database) -> dict[str, Any]:
    """A SQLite database among the resources."""
    return {"id": database.id, "name": database.name, "createdAt": moment(database.created_at_ms)}


def cap_item(cap: metering.Cap) -> dict[str, Any]:
    """A cap as it was set."""
    return {
        "metric": cap.meter,
        "period": cap.period,
        "capValue": cap.cap_value,
        "hardStop": cap.hard_stop,
        "notifyAtPercent": cap.notify_at_percent,
        "updatedAt": moment(cap.updated_at_ms),
    }


def cap_state(state: metering.CapState) -> dict[str, Any]:
    """A cap and how far it is used."""
    return {
        **cap_item(state.cap),
        "used": state.used,
        "reserved": state.reserved,
        "remaining": state.remaining,
        "resetsAt": moment(state.resets_at_ms),
        "notified": state.notified,
        "stopped": state.stopped,
    }


def account_usage(usage: metering.GetUsageReply) -> dict[str, Any]:
    """An account's used units. Contract 4.10."""
    return {
        "storageObjectCount": 0,
        "objectStorageMib": 0,
        "meters": {"day": dict(usage.day), "month": dict(usage.month)},
    }


class Snapshot:
    """Asks the owners of a service's resources."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def resources(self, account_id: str, service_id: str) -> dict[str, Any]:
        """Every resource of the service. Contract 4.4."""
        databases, namespaces, caps = await asyncio.gather(
            self._context.sqlite.list_databases(service_id),
            self._context.kv.list_namespaces(service_id),
            self._context.metering.caps(account_id),
        )
        return _resources(databases, namespaces, caps)

    async def resources_afterwards(self, account_id: str, service_id: str) -> dict[str, Any]:
        """Every resource of the service, as the answer to a change that was made.

        Raises OutcomeUnknown with the outcome `done` where an owner, or another shard, cannot be reached.
        """
        try:
            return await self.resources(account_id, service_id)
        except ServiceUnavailable as error:
            raise OutcomeUnknown(outcome=Outcome.DONE, service=error.params["service"]) from error

    async def overview(self, account_id: str, service: Service) -> dict[str, Any]:
        """Everything about the service. Contract 4.2."""
        databases, namespaces, usage, catalogue = await asyncio.gather(
            self._context.sqlite.list_databases(service.id),
            self._context.kv.list_namespaces(service.id),
            self._context.metering.usage(account_id),
            self._context.metering.catalogue(),
        )
        plans = embedded(catalogue.plans_json) or []
        return {
            "status": {"service": service_description(service), "latest_deploy": None, "latest_build_job": None},
            "resources": _resources(databases, namespaces, list(usage.caps)),
            "env": [],
            "domains": [],
            "capabilities": capabilities_of(service),
            "accountUsage": account_usage(usage),
            "billingEstimate": embedded(usage.billing_estimate_json) or {},
            "deploys": [],
            "builds": [],
            "logs": [],
            "limits": embedded(usage.limits_json) or {},
            "pricing": next((plan.get("pricing") for plan in plans if _plan_name(plan) == usage.plan), None),
            "asOf": moment(usage.as_of_ms),
            "delayed": usage.delayed,
            "next_actions": _next_actions(service, has_namespace=bool(namespaces)),
        }


def _plan_name(plan: dict[str, Any]) -> Any:
    return plan.get("name", plan.get("key"))


def _resources(
    databases: list[sqlite.Database], namespaces: list[kv.Namespace], caps: list[metering.CapState]
) -> dict[str, Any]:
    return {
        "sqliteDatabases": [database_item(database) for database in databases],
        "kvNamespaces": [namespace_item(namespace) for namespace in namespaces],
        "queues": [],
        "cronTriggers": [],
        "stateNamespaces": [],
        "serviceBindings": [],
        "usageCaps": [cap_state(cap) for cap in caps],
    }


def _next_actions(service: Service, *, has_namespace: bool) -> list[str]:
    actions = []
    if service.capabilities.get("kv", False):
        if has_namespace:
            actions.append(f"tovuk kv list --service {service.id} --json")
        else:
            actions.append(f"tovuk kv create --service {service.id} CACHE --json")
    actions.append("tovuk limits set kv_writes --period day --value 100000 --notify-at-percent 80 --json")
    actions.append("tovuk usage --json")
    return actions
