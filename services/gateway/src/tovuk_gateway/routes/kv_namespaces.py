"""The routes that make and remove KV namespaces."""

from typing import Any

from fastapi import APIRouter, Request, Security

from tovuk_gateway.chain import Need, need_capability
from tovuk_gateway.routes import contract, models
from tovuk_gateway.routes.context import Context, NamespaceRef, ServiceRef, body_object, success, text_field
from tovuk_gateway.routes.snapshot import Snapshot, namespace_item

_NAMESPACES = "/v1/services/{service:segment}/kv/namespaces"


def router(context: Context) -> APIRouter:
    """The namespace routes. They come before those of values, whose paths a namespace of this name would share."""
    routes = APIRouter(tags=["kv"], dependencies=[Security(contract.bearer)])
    snapshot = Snapshot(context)

    @routes.post(
        _NAMESPACES,
        operation_id="createKvNamespace",
        summary="Create a KV namespace",
        responses=contract.answers(
            models.NamespaceCreated,
            "service_not_found",
            "capability_disabled",
            "invalid_resource_name",
            "resource_name_taken",
            "resource_limit_reached",
            "invalid_request",
            "invalid_json",
            "body_too_large",
            "unsupported_media_type",
            "rate_limited",
            "outcome_unknown",
        ),
        openapi_extra=contract.body(models.NamespaceCreate),
    )
    async def create_namespace(request: Request, service: ServiceRef) -> Any:
        """Answers with the refreshed resources and the new namespace."""
        caller, found = await context.admit_to_service(request, Need.WRITE, service)
        need_capability(found, "kv")
        name = text_field(await body_object(request), "name")
        created = await context.kv.create_namespace(caller.account_id, found.id, name)
        resources = await snapshot.resources_afterwards(caller.account_id, found.id)
        return context.hinted(
            {**resources, "created": namespace_item(created)},
            "Write the first key with PUT /v1/services/{service}/kv/{namespace}/values/{key}. "
            "A deployed Worker finds the namespace's id in TOVUK_KV_<NAME>.",
            "/openapi.json",
        )

    @routes.delete(
        _NAMESPACES + "/{namespace:segment}",
        operation_id="deleteKvNamespace",
        summary="Delete a KV namespace and every key in it",
        responses=contract.answers(
            models.Resources,
            "service_not_found",
            "kv_namespace_not_found",
            "rate_limited",
            "outcome_unknown",
        ),
    )
    async def delete_namespace(request: Request, service: ServiceRef, namespace: NamespaceRef) -> Any:
        """Answers with the refreshed resources."""
        caller, found = await context.admit_to_service(request, Need.WRITE, service)
        await context.kv.delete_namespace(caller.account_id, found.id, namespace)
        return success(await snapshot.resources_afterwards(caller.account_id, found.id))

    return routes
