"""The routes of the caller's own account: its names, its activity, its tokens."""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Request, Security

from tovuk.control.v1 import control_pb2 as pb
from tovuk_gateway.chain import Need
from tovuk_gateway.errors import InvalidRequest
from tovuk_gateway.routes import contract, models
from tovuk_gateway.routes.context import (
    Context,
    body_object,
    moment,
    page_limit,
    query_text,
    success,
    text_field,
)

TokenId = Annotated[str, Path(description="A token's id.")]

_BODY = ("invalid_request", "invalid_json", "body_too_large", "unsupported_media_type")
PAGE = contract.query(
    limit={"type": "integer", "minimum": 1, "maximum": 100, "default": 50},
    cursor={"type": "string", "description": "next_cursor of the page before."},
)
_PAGE_MIN, _PAGE_MAX = 1, 100
#: Expiries beyond this do not fit the wire; control's own limit is far below.
_EXPIRY_SECONDS_MAX = 2**53 - 1


def router(context: Context) -> APIRouter:
    """Every route of the caller's account."""
    routes = APIRouter(tags=["account"], dependencies=[Security(contract.bearer)])

    @routes.get(
        "/v1/account",
        operation_id="getAccount",
        summary="Show the account",
        responses=contract.answers(models.AccountAnswer, "rate_limited"),
    )
    async def get_account(request: Request) -> Any:
        """The account the token belongs to."""
        caller = await context.admit(request, Need.READ)
        return success({"account": account_item(await context.control.get_account(caller.account_id))})

    @routes.put(
        "/v1/account",
        operation_id="updateAccount",
        summary="Change the account's handle and name",
        responses=contract.answers(
            models.AccountAnswer,
            "invalid_handle",
            "invalid_display_name",
            "handle_taken",
            "rate_limited",
            "outcome_unknown",
            *_BODY,
        ),
        openapi_extra=contract.body(models.AccountUpdate),
    )
    async def update_account(request: Request) -> Any:
        """The display name is the handle where it is left out."""
        caller = await context.admit(request, Need.WRITE)
        content = await body_object(request)
        handle = text_field(content, "handle")
        account = await context.control.update_account(
            caller.account_id, handle=handle, display_name=text_field(content, "displayName", handle)
        )
        return success({"account": account_item(account)})

    @routes.get(
        "/v1/account/activity",
        operation_id="listActivity",
        summary="What happened in the account",
        responses=contract.answers(models.ActivityPage, "invalid_limit", "invalid_cursor", "rate_limited"),
        openapi_extra=PAGE,
    )
    async def list_activity(request: Request) -> Any:
        """Newest first."""
        caller = await context.admit(request, Need.READ)
        limit, cursor = page_of(request)
        page = await context.control.list_activity(caller.account_id, limit=limit, cursor=cursor)
        entries = [
            {
                "id": entry.id,
                "kind": entry.kind,
                "serviceId": entry.service_id or None,
                "details": orjson.loads(entry.details_json) if entry.details_json else {},
                "at": moment(entry.at_ms),
            }
            for entry in page.entries
        ]
        return success({"activity": entries, **next_page(page.next_cursor)})

    @routes.post(
        "/v1/account/tokens",
        operation_id="createToken",
        summary="Make a token",
        responses=contract.answers(
            models.TokenCreated,
            "invalid_token_request",
            "service_not_found",
            "token_limit_reached",
            "rate_limited",
            "outcome_unknown",
            *_BODY,
        ),
        openapi_extra=contract.body(models.TokenCreate),
    )
    async def create_token(request: Request) -> Any:
        """A runtime token needs its service. An operator token can only be made by an operator."""
        caller = await context.admit(request, Need.WRITE)
        content = await body_object(request)
        reply = await context.control.create_token(
            caller.account_id,
            scope=text_field(content, "scope", "user"),
            service_ref=text_field(content, "service", ""),
            label=text_field(content, "label", ""),
            expires_in_seconds=_expiry(content.get("expiresInSeconds")),
            by_operator="operator" in caller.scopes,
        )
        return context.hinted(
            {"token": _token_item(reply.token), "secret": reply.secret},
            "Store secret now: it is not shown again. Send it as Authorization: Bearer <secret>.",
            "/docs/errors/unauthenticated",
        )

    @routes.get(
        "/v1/account/tokens",
        operation_id="listTokens",
        summary="List tokens",
        responses=contract.answers(models.TokenList, "rate_limited"),
    )
    async def list_tokens(request: Request) -> Any:
        """Without their secrets."""
        caller = await context.admit(request, Need.READ)
        tokens = await context.control.list_tokens(caller.account_id)
        return success({"tokens": [_token_item(token) for token in tokens]})

    @routes.delete(
        "/v1/account/tokens/{token:segment}",
        operation_id="revokeToken",
        summary="Revoke a token",
        responses=contract.answers(models.TokenRevoked, "token_not_found", "rate_limited", "outcome_unknown"),
    )
    async def revoke_token(request: Request, token: TokenId) -> Any:
        """Of no use within 5 seconds everywhere, 30 while control cannot be reached."""
        caller = await context.admit(request, Need.WRITE)
        revoked = await context.control.revoke_token(caller.account_id, token)
        context.chain.forget_tokens()
        return success({"token": _token_item(revoked), "revoked": True})

    return routes


def account_item(account: pb.Account) -> dict[str, Any]:
    """An account."""
    return {
        "id": account.id,
        "handle": account.handle,
        "displayName": account.display_name,
        "plan": account.plan,
        "createdAt": moment(account.created_at_ms),
    }


def page_of(request: Request) -> tuple[int, str]:
    """`limit`, 0 for control's default, and `cursor` of the query."""
    return page_limit(request, _PAGE_MIN, _PAGE_MAX, 0), query_text(request, "cursor")


def next_page(cursor: str) -> dict[str, Any]:
    """How to go on."""
    return {"has_more": bool(cursor), "next_cursor": cursor or None}


def _token_item(token: pb.Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "scope": token.scope,
        "serviceId": token.service_id or None,
        "label": token.label,
        "scopes": list(token.scopes),
        "prefix": token.prefix,
        "lastFour": token.last_four,
        "createdAt": moment(token.created_at_ms),
        "expiresAt": moment(token.expires_at_ms),
        "revokedAt": moment(token.revoked_at_ms),
    }


def _expiry(given: object) -> int:
    if given is None:
        return 0
    if type(given) is not int or not 1 <= given <= _EXPIRY_SECONDS_MAX:
        raise InvalidRequest(reason="expiresInSeconds must be a positive integer")
    return given
