"""The FastAPI application: every route, and the envelope for whatever goes wrong in one."""

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match

from tovuk_gateway.errors import InvalidRequest, MethodNotAllowed, NoSuchRoute
from tovuk_gateway.routes import (
    account,
    contract,
    health,
    kv,
    kv_namespaces,
    operator,
    pages,
    services,
    sqlite,
    sqlite_backups,
    usage,
)
from tovuk_gateway.routes.context import Context, Reply, success
from tovuk_kit.errors import InternalError, TovukError


def application(context: Context, checks: health.Health) -> FastAPI:
    """Every route of the gateway; wrap it in `chain.Front`, which names requests and splits their paths."""
    # A redirected slash would let `env delete ..` through, and FastAPI's own pages load scripts from elsewhere.
    app = FastAPI(redirect_slashes=False, docs_url=None, redoc_url=None, openapi_url=None)
    routers = (
        health.router(checks),
        services.router(context),
        kv_namespaces.router(context),
        kv.router(context),
        sqlite.router(context),
        sqlite_backups.router(context),
        usage.router(context),
        account.router(context),
        operator.router(context),
        pages.router(context),
    )
    for router in routers:
        app.include_router(router)
    routes = [route for router in routers for route in router.routes]
    document: dict[str, Any] = {}

    @app.get(
        "/openapi.json",
        operation_id="getOpenapi",
        summary="This file",
        tags=["pages"],
        responses=contract.errors(public=True),
    )
    async def openapi() -> Any:
        """The routes, their bodies, answers and errors."""
        if not document:
            document.update(contract.document(app, context.envelope))
        return success(document)

    def fail(request: Request, error: TovukError, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Reply:
        return Reply(context.envelope.error(error, request.state.request_id, headers))

    async def tovuk_error(request: Request, error: Exception) -> Reply:
        return fail(request, error if isinstance(error, TovukError) else InternalError())

    async def http_exception(request: Request, error: Exception) -> Reply:
        if isinstance(error, HTTPException) and error.status_code == 405:
            allowed = ", ".join(sorted(_methods(routes, request)))
            return fail(request, MethodNotAllowed(), ((b"allow", allowed.encode()),))
        return fail(request, NoSuchRoute())

    async def invalid(request: Request, _: Exception) -> Reply:
        return fail(request, InvalidRequest(reason="a parameter does not fit its schema"))

    app.add_exception_handler(TovukError, tovuk_error)
    app.add_exception_handler(HTTPException, http_exception)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, tovuk_error)
    return app


def _methods(routes: Sequence[BaseRoute], request: Request) -> set[str]:
    """Every method of this path: Starlette names those of the first route only."""
    methods: set[str] = set()
    for route in routes:
        match, _ = route.matches(request.scope)
        if match is not Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    return methods
