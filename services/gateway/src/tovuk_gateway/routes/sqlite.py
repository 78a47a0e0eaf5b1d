"""The SQLite routes: databases, and the statements that run in them."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Security

from tovuk.sqlite.v1 import sqlite_pb2 as pb
from tovuk.sqlite.v1 import statements as payload
from tovuk_gateway import limits
from tovuk_gateway.bodies import whole
from tovuk_gateway.chain import Disconnected, Need, need_capability
from tovuk_gateway.errors import InvalidRequest
from tovuk_gateway.routes import contract, models
from tovuk_gateway.routes.context import (
    Context,
    ServiceRef,
    body_object,
    query_text,
    raw_success,
    success,
    text_field,
)
from tovuk_gateway.routes.snapshot import Snapshot, database_item
from tovuk_gateway.routes.sqlite_statements import query_of

_DATABASES = "/v1/services/{service:segment}/sqlite/databases"
_QUERY = "/v1/services/{service:segment}/sqlite/{database:segment}/query"
_BODY = ("invalid_request", "invalid_json", "body_too_large", "unsupported_media_type")

DatabaseRef = Annotated[str, Path(description="A database's id or name.", examples=["DB"])]


def router(context: Context) -> APIRouter:
    """Every SQLite route."""
    routes = APIRouter(tags=["sqlite"], dependencies=[Security(contract.bearer)])
    snapshot = Snapshot(context)

    @routes.post(
        _DATABASES,
        operation_id="createSqliteDatabase",
        summary="Create a SQLite database",
        responses=contract.answers(
            models.DatabaseCreated,
            "service_not_found",
            "capability_disabled",
            "invalid_resource_name",
            "resource_name_taken",
            "resource_limit_reached",
            "resource_plan_limit_reached",
            "rate_limited",
            "outcome_unknown",
            "storage_full",
            *_BODY,
        ),
        openapi_extra=contract.body(models.DatabaseCreate),
    )
    async def create_database(request: Request, service: ServiceRef) -> Any:
        """Answers with the refreshed resources and the new database."""
        caller, found = await context.admit_to_service(request, Need.WRITE, service)
        need_capability(found, "sqlite")
        name = text_field(await body_object(request), "name")
        created = await context.sqlite.create_database(caller.account_id, found.id, name)
        resources = await snapshot.resources_afterwards(caller.account_id, found.id)
        return context.hinted(
            {**resources, "created": database_item(created)},
            "Create the first table with POST /v1/services/{service}/sqlite/{database}/query. "
            "A deployed Worker finds the database's id in TOVUK_SQLITE_<NAME>.",
            "/openapi.json",
        )

    @routes.delete(
        _DATABASES + "/{database:segment}",
        operation_id="deleteSqliteDatabase",
        summary="Delete a SQLite database and everything in it",
        responses=contract.answers(
            models.Resources, "service_not_found", "sqlite_database_not_found", "rate_limited", "outcome_unknown"
        ),
    )
    async def delete_database(request: Request, service: ServiceRef, database: DatabaseRef) -> Any:
        """Answers with the refreshed resources."""
        caller, found = await context.admit_to_service(request, Need.WRITE, service)
        await context.sqlite.delete_database(caller.account_id, found.id, database)
        return success(await snapshot.resources_afterwards(caller.account_id, found.id))

    @routes.post(
        _QUERY,
        operation_id="querySqliteDatabase",
        summary="Run one statement, or many as one transaction",
        responses=contract.answers(
            models.QueryAnswer,
            "service_not_found",
            "capability_disabled",
            "sqlite_database_not_found",
            "sqlite_syntax_error",
            "sqlite_constraint_failed",
            "sqlite_statement_failed",
            "sqlite_statement_denied",
            "sqlite_statement_empty",
            "sqlite_several_statements",
            "sqlite_statement_too_long",
            "sqlite_parameters_invalid",
            "sqlite_too_many_parameters",
            "sqlite_batch_too_many",
            "sqlite_query_too_slow",
            "sqlite_query_interrupted",
            "sqlite_result_too_large",
            "sqlite_text_invalid",
            "sqlite_cursor_invalid",
            "sqlite_cursor_expired",
            "sqlite_database_full",
            "sqlite_database_busy",
            "usage_cap_reached",
            "payment_required",
            "metering_unavailable",
            "usage_settling",
            "store_unavailable",
            "storage_full",
            "outcome_unknown",
            "request_timeout",
            *_BODY,
        ),
        openapi_extra={
            **contract.body(models.Query),
            **contract.query(estimate={"type": "boolean", "description": "Tell how it would run; do not run it."}),
        },
    )
    async def query(request: Request, service: ServiceRef, database: DatabaseRef) -> Any:
        """All statements or none. Meters sqlite_rows_read and sqlite_rows_written; a cap stops a statement inside."""
        caller, found = await context.admit_to_service(request, Need.DATA_WRITE, service)
        need_capability(found, "sqlite")
        asked = run_request(
            await whole(request.receive, request.headers, limit_bytes=limits.QUERY_BODY_BYTES_MAX),
            estimate=_flag(query_text(request, "estimate")),
        )
        asked.target.CopyFrom(pb.Target(account_id=caller.account_id, service_id=found.id, database=database))
        asked.plan = caller.plan
        return raw_success(await _while_connected(request, context, asked))

    return routes


def run_request(body: bytes | bytearray, *, estimate: bool) -> pb.RunRequest:
    """The body of a query on the wire. Raises InvalidJson, InvalidRequest, ParametersInvalid, BatchTooMany."""
    asked = query_of(body, estimate=estimate)
    return pb.RunRequest(
        statements=payload.encode(asked.statements), batch=asked.batch, estimate=estimate, cursor=asked.cursor
    )


def _flag(text: str) -> bool:
    if text not in {"", "true", "false", "1", "0"}:
        raise InvalidRequest(reason="estimate must be true or false")
    return text in {"true", "1"}


async def _while_connected(request: Request, context: Context, asked: pb.RunRequest) -> bytes:
    """The answer, unless the caller leaves before: its query is interrupted then. Raises Disconnected."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    running = asyncio.ensure_future(context.sqlite.run(asked, is_read=asked.estimate))
    leaving = asyncio.ensure_future(gone())
    try:
        await asyncio.wait((running, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            raise Disconnected
        return running.result()
    finally:
        leaving.cancel()
        running.cancel()
