"""The routes of whoever runs the installation: its accounts, and the shards of its databases."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Security

from tovuk_gateway.chain import Need
from tovuk_gateway.routes import contract, models
from tovuk_gateway.routes.account import PAGE, account_item, next_page, page_of
from tovuk_gateway.routes.context import Context, body_object, success, text_field

DatabaseId = Annotated[str, Path(description="A database's id.")]
AccountId = Annotated[str, Path(description="An account's id.")]

_BODY = ("invalid_request", "invalid_json", "body_too_large", "unsupported_media_type")


def router(context: Context) -> APIRouter:
    """The operator's routes; each needs a token of the operator scope."""
    routes = APIRouter(tags=["operator"], dependencies=[Security(contract.bearer)])

    @routes.post(
        "/v1/operator/accounts",
        operation_id="createOperatorAccount",
        summary="Make an account",
        responses=contract.answers(
            models.OperatorAccountCreated,
            "invalid_handle",
            "invalid_display_name",
            "invalid_plan",
            "handle_taken",
            "rate_limited",
            "outcome_unknown",
            *_BODY,
        ),
        openapi_extra=contract.body(models.OperatorAccountCreate),
    )
    async def create_account(request: Request) -> Any:
        """Answers with the account's first user token."""
        await context.admit(request, Need.OPERATE)
        content = await body_object(request)
        handle = text_field(content, "handle")
        reply = await context.control.create_account(
            handle=handle,
            display_name=text_field(content, "displayName", handle),
            plan=text_field(content, "plan", "free"),
        )
        return context.hinted(
            {"account": account_item(reply.account), "token": reply.token},
            "Give token to the account's owner now: it is not shown again.",
            "/docs/errors/unauthenticated",
        )

    @routes.put(
        "/v1/operator/accounts/{account:segment}",
        operation_id="updateOperatorAccount",
        summary="Change an account's plan",
        responses=contract.answers(
            models.AccountAnswer, "account_not_found", "invalid_plan", "rate_limited", "outcome_unknown", *_BODY
        ),
        openapi_extra=contract.body(models.OperatorAccountUpdate),
    )
    async def update_account(request: Request, account: AccountId) -> Any:
        """Metering learns of the plan durably, within moments."""
        await context.admit(request, Need.OPERATE)
        plan = text_field(await body_object(request), "plan")
        changed = await context.control.set_account_plan(account, plan)
        context.chain.forget_tokens()
        return success({"account": account_item(changed)})

    @routes.get(
        "/v1/operator/accounts",
        operation_id="listOperatorAccounts",
        summary="List accounts",
        responses=contract.answers(models.OperatorAccountList, "invalid_limit", "invalid_cursor", "rate_limited"),
        openapi_extra=PAGE,
    )
    async def list_accounts(request: Request) -> Any:
        """Page by page."""
        await context.admit(request, Need.OPERATE)
        limit, cursor = page_of(request)
        page = await context.control.list_accounts(limit=limit, cursor=cursor)
        return success(
            {"accounts": [account_item(account) for account in page.accounts], **next_page(page.next_cursor)}
        )

    @routes.get(
        "/v1/operator/accounts/{account:segment}",
        operation_id="getOperatorAccount",
        summary="Show an account",
        responses=contract.answers(models.AccountAnswer, "account_not_found", "rate_limited"),
    )
    async def get_account(request: Request, account: AccountId) -> Any:
        """By id."""
        await context.admit(request, Need.OPERATE)
        return success({"account": account_item(await context.control.get_account(account))})

    @routes.get(
        "/v1/operator/sqlite/shards",
        operation_id="listOperatorShards",
        summary="List the shards where databases lie",
        responses=contract.answers(models.OperatorShardList, "rate_limited"),
    )
    async def list_shards(request: Request) -> Any:
        """The one with the fewest databases first."""
        await context.admit(request, Need.OPERATE)
        shards = await context.control.list_shards()
        return success(
            {
                "shards": [
                    {"name": shard.name, "live": shard.live, "fencing": shard.fencing, "databases": shard.databases}
                    for shard in shards
                ]
            }
        )

    @routes.post(
        "/v1/operator/sqlite/databases/{database:segment}/move",
        operation_id="moveOperatorDatabase",
        summary="Move a database to another shard while it is used",
        responses=contract.answers(
            models.OperatorMoveAnswer, "sqlite_database_not_found", "shard_not_found", "rate_limited", *_BODY
        ),
        openapi_extra=contract.body(models.OperatorMove),
    )
    async def move_database(request: Request, database: DatabaseId) -> Any:
        """Answered when it is noted; a move to the database's own shard calls off the one that was noted before."""
        await context.admit(request, Need.OPERATE)
        move = await context.control.move_database(database, text_field(await body_object(request), "shard"))
        return context.hinted(
            {"move": {"databaseId": move.database_id, "from": move.shard, "to": move.to}},
            "The move goes on beside requests. List the shards to see it done: their databases are counted there.",
            "/openapi.json",
        )

    return routes
