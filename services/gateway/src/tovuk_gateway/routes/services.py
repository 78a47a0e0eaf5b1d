"""The routes of services: a service without a deploy, its list, its end and its return, and what it consists of."""

from typing import Any

from fastapi import APIRouter, Request, Security

from tovuk_gateway.chain import Need
from tovuk_gateway.errors import InvalidRequest
from tovuk_gateway.routes import contract, models
from tovuk_gateway.routes.context import (
    Context,
    ServiceRef,
    body_object,
    query_text,
    success,
    text_field,
)
from tovuk_gateway.routes.snapshot import Snapshot, service_description, service_row

_SERVICE = "/v1/services/{service:segment}"
_BODY = ("invalid_request", "invalid_json", "body_too_large", "unsupported_media_type")


def router(context: Context) -> APIRouter:
    """Every route of services."""
    routes = APIRouter(tags=["services"], dependencies=[Security(contract.bearer)])
    snapshot = Snapshot(context)

    @routes.post(
        "/v1/services",
        operation_id="createService",
        summary="Create a service without a deploy",
        responses=contract.answers(
            models.ServiceAnswer,
            "invalid_service_name",
            "invalid_service_kind",
            "invalid_capabilities",
            "service_name_taken",
            "service_limit_reached",
            "rate_limited",
            "outcome_unknown",
            *_BODY,
        ),
        openapi_extra=contract.body(models.ServiceCreate),
    )
    async def create_service(request: Request) -> Any:
        """Capabilities that are left out take their defaults: the nine free ones are on."""
        caller = await context.admit(request, Need.WRITE)
        content = await body_object(request)
        service = await context.control.create_service(
            caller.account_id,
            name=text_field(content, "name"),
            kind=text_field(content, "kind", "rust_worker"),
            capabilities=_capabilities(content.get("capabilities")),
        )
        context.chain.forget_services(caller.account_id)
        return context.hinted(
            {"service": service_description(service)},
            "Create resources under /v1/services/{service} with service.id, and set caps before sending traffic.",
            "/openapi.json",
        )

    @routes.get(
        "/v1/services",
        operation_id="listServices",
        summary="List services",
        responses=contract.answers(models.ServiceList, "invalid_request", "rate_limited"),
        openapi_extra=contract.query(
            deleted={"type": "boolean", "description": "Those that can still be restored, instead of the living."}
        ),
    )
    async def list_services(request: Request) -> Any:
        """All of them, by name."""
        caller = await context.admit(request, Need.READ)
        deleted = query_text(request, "deleted") or "false"
        if deleted not in {"true", "false"}:
            raise InvalidRequest(reason="deleted must be true or false")
        services = await context.control.list_services(caller.account_id, deleted=deleted == "true")
        return success({"services": [service_row(service) for service in services]})

    @routes.delete(
        _SERVICE,
        operation_id="deleteService",
        summary="Delete a service",
        responses=contract.answers(models.ServiceDeleted, "service_not_found", "rate_limited", "outcome_unknown"),
    )
    async def delete_service(request: Request, service: ServiceRef) -> Any:
        """Hidden at once and its name free at once; it can be restored for 72 hours. Also with a trailing slash."""
        caller = await context.admit(request, Need.WRITE)
        deleted = await context.control.delete_service(caller.account_id, service)
        context.chain.forget_services(caller.account_id)
        return context.hinted(
            {"deleted": True, "service": service_description(deleted)},
            "To undo this within 72 hours, POST /v1/services/{service}/restore with service.id.",
            "/openapi.json",
        )

    @routes.post(
        _SERVICE + "/restore",
        operation_id="restoreService",
        summary="Restore a deleted service",
        responses=contract.answers(
            models.ServiceAnswer,
            "service_not_found",
            "service_not_restorable",
            "service_limit_reached",
            "rate_limited",
            "outcome_unknown",
        ),
    )
    async def restore_service(request: Request, service: ServiceRef) -> Any:
        """By id only: the name may belong to another service by now."""
        caller = await context.admit(request, Need.WRITE)
        restored = await context.control.restore_service(caller.account_id, service)
        context.chain.forget_services(caller.account_id)
        return success({"service": service_description(restored)})

    @routes.get(
        _SERVICE + "/resources",
        operation_id="getServiceResources",
        summary="List a service's resources",
        responses=contract.answers(models.Resources, "service_not_found", "rate_limited", "store_unavailable"),
    )
    async def resources(request: Request, service: ServiceRef) -> Any:
        """Asked of every owner at once; 503 names an owner that cannot be reached."""
        caller, found = await context.admit_to_service(request, Need.INSPECT, service)
        return success(await snapshot.resources(caller.account_id, found.id))

    @routes.get(
        _SERVICE + "/overview",
        operation_id="getServiceOverview",
        summary="Everything about a service in one answer",
        responses=contract.answers(models.Overview, "service_not_found", "rate_limited", "store_unavailable"),
    )
    async def overview(request: Request, service: ServiceRef) -> Any:
        """The canonical snapshot for agents."""
        caller, found = await context.admit_to_service(request, Need.READ, service)
        return success(await snapshot.overview(caller.account_id, found))

    return routes


def _capabilities(given: object) -> dict[str, bool]:
    if given is None:
        return {}
    if not isinstance(given, dict) or not all(isinstance(value, bool) for value in given.values()):
        raise InvalidRequest(reason="capabilities must be an object of booleans")
    return given
