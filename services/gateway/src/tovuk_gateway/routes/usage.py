"""The routes of usage, caps and the catalogue."""

import asyncio
from collections import OrderedDict
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Security

from tovuk.metering.v1 import metering_pb2 as pb
from tovuk_gateway import limits
from tovuk_gateway.chain import Need
from tovuk_gateway.errors import (
    InvalidCapValue,
    InvalidNotifyThreshold,
    InvalidPeriod,
    InvalidRequest,
    RowsReadNotExact,
)
from tovuk_gateway.routes import contract, models
from tovuk_gateway.routes.context import Context, body_object, embedded, moment, success
from tovuk_gateway.routes.snapshot import account_usage, cap_item, cap_state
from tovuk_kit.errors import ServiceUnavailable
from tovuk_kit.meters import PERIODS

Metric = Annotated[str, Path(description="A meter's name.", examples=["kv_reads"])]
Period = Annotated[str, Path(description="day or month.", examples=["day"])]

_BODY = ("invalid_request", "invalid_json", "body_too_large", "unsupported_media_type")
_NOTIFY_PERCENT_DEFAULT = 80
_CAP_VALUE_MAX = 2**53 - 1


def router(context: Context) -> APIRouter:
    """Every route of usage."""
    routes = APIRouter(tags=["usage"])
    secured = [Security(contract.bearer)]
    memory = _Memory()

    @routes.get(
        "/v1/usage",
        operation_id="getUsage",
        summary="Usage, limits, caps and the estimate",
        responses=contract.answers(models.Usage, "rate_limited"),
        dependencies=secured,
    )
    async def get_usage(request: Request) -> Any:
        """`asOf` says how old the figures are, `delayed` that newer ones may exist; zero is never a guess."""
        caller = await context.admit(request, Need.READ)
        try:
            usage, catalogue, services = await asyncio.gather(
                context.metering.usage(caller.account_id),
                memory.catalogue(context),
                context.control.list_services(caller.account_id),
            )
        except ServiceUnavailable:
            remembered = memory.get(caller.account_id)
            if remembered is None:
                raise
            return success({**remembered, "delayed": True})
        content = _usage(usage, catalogue, len(services))
        memory.put(caller.account_id, content)
        return success(content)

    @routes.put(
        "/v1/usage/caps/{metric:segment}",
        operation_id="putUsageCap",
        summary="Set a cap",
        responses=contract.answers(
            models.CapAnswer,
            "invalid_metric",
            "invalid_period",
            "invalid_cap_value",
            "invalid_notify_threshold",
            "cap_not_settled",
            "rows_read_not_exact",
            "rate_limited",
            "outcome_unknown",
            *_BODY,
        ),
        openapi_extra=contract.body(models.CapSet),
        dependencies=secured,
    )
    async def put_cap(request: Request, metric: Metric) -> Any:
        """In force when answered, everywhere. Setting the same cap again is harmless."""
        caller = await context.admit(request, Need.WRITE)
        content = await body_object(request)
        if metric == "sqlite_rows_read" and not await context.sqlite.counts_rows_read():
            raise RowsReadNotExact(metric=metric)
        cap = await context.metering.put_cap(
            caller.account_id,
            metric=metric,
            period=_period(content.get("period")),
            cap_value=_cap_value(content.get("capValue")),
            hard_stop=_hard_stop(content.get("hardStop")),
            notify_at_percent=_notify_at_percent(content.get("notifyAtPercent")),
        )
        return context.hinted(
            {"cap": cap_item(cap)},
            "Requests beyond the cap are refused with usage_cap_reached. Watch caps[].remaining in GET /v1/usage.",
            "/docs/errors/usage_cap_reached",
        )

    @routes.delete(
        "/v1/usage/caps/{metric:segment}/{period:segment}",
        operation_id="deleteUsageCap",
        summary="Remove a cap",
        responses=contract.answers(
            models.CapDeleted, "invalid_metric", "invalid_period", "cap_not_found", "rate_limited", "outcome_unknown"
        ),
        dependencies=secured,
    )
    async def delete_cap(request: Request, metric: Metric, period: Period) -> Any:
        """Refused requests are let through again within a second."""
        caller = await context.admit(request, Need.WRITE)
        await context.metering.delete_cap(caller.account_id, metric=metric, period=_period(period))
        return success({"deleted": True, "metric": metric, "period": period})

    @routes.get(
        "/v1/usage/breakdown",
        operation_id="getUsageBreakdown",
        summary="Usage by service and resource",
        responses=contract.answers(models.Breakdown, "rate_limited"),
        dependencies=secured,
    )
    async def get_breakdown(request: Request) -> Any:
        """Units of the current UTC day and month; of a level, what is stored now."""
        caller = await context.admit(request, Need.READ)
        lines = await context.metering.breakdown(caller.account_id)
        return success(
            {
                "breakdown": [
                    {
                        "metric": line.meter,
                        "serviceId": line.service_id,
                        "resourceId": line.resource_id,
                        "day": line.day_units,
                        "month": line.month_units,
                    }
                    for line in lines
                ]
            }
        )

    @routes.get(
        "/v1/capabilities",
        operation_id="getCapabilities",
        summary="Products and plans",
        responses=contract.answers(models.Catalogue, "service_unavailable", public=True),
    )
    async def get_capabilities() -> Any:
        """Needs no token. Derived from the price book."""
        catalogue = await memory.catalogue(context)
        origin = context.envelope.public_url
        return success(
            {
                "plans": embedded(catalogue.plans_json) or [],
                "products": embedded(catalogue.products_json) or [],
                "docs_url": f"{origin}/docs/errors",
                "openapi_url": f"{origin}/openapi.json",
            }
        )

    return routes


class _Memory:
    """Each account's last usage, and the last catalogue, for while metering cannot be reached."""

    def __init__(self) -> None:
        self._usage: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._catalogue: pb.GetCatalogueReply | None = None

    def get(self, account_id: str) -> dict[str, Any] | None:
        return self._usage.get(account_id)

    def put(self, account_id: str, content: dict[str, Any]) -> None:
        self._usage[account_id] = content
        self._usage.move_to_end(account_id)
        # An account's usage is some tens of kilobytes.
        if len(self._usage) > limits.USAGE_MEMORY_ENTRIES_MAX:
            self._usage.popitem(last=False)

    async def catalogue(self, context: Context) -> pb.GetCatalogueReply:
        try:
            self._catalogue = await context.metering.catalogue()
        except ServiceUnavailable:
            if self._catalogue is None:
                raise
        return self._catalogue


def _usage(usage: pb.GetUsageReply, catalogue: pb.GetCatalogueReply, service_count: int) -> dict[str, Any]:
    return {
        "plan": usage.plan,
        "usage": {"serviceCount": service_count, **account_usage(usage)},
        "limits": embedded(usage.limits_json) or {},
        "caps": [cap_state(cap) for cap in usage.caps],
        "windows": [_window(window) for window in usage.windows],
        "billingEstimate": embedded(usage.billing_estimate_json) or {},
        "products": embedded(catalogue.products_json) or [],
        "plans": embedded(catalogue.plans_json) or [],
        "asOf": moment(usage.as_of_ms),
        "delayed": usage.delayed,
    }


def _window(window: pb.WindowState) -> dict[str, Any]:
    limit = window.limit if window.HasField("limit") else None
    return {
        "metric": window.meter,
        "period": window.period,
        "used": window.used,
        "reserved": window.reserved,
        "burnt": window.burnt,
        "limit": limit,
        "remaining": None if limit is None else max(limit - window.used - window.reserved - window.burnt, 0),
        "planLimit": window.plan_limit,
        "resetsAt": moment(window.resets_at_ms),
    }


def _period(given: object) -> str:
    if not isinstance(given, str) or given not in PERIODS:
        raise InvalidPeriod
    return given


def _cap_value(given: object) -> int:
    if type(given) is not int or not 0 <= given <= _CAP_VALUE_MAX:
        raise InvalidCapValue
    return given


def _hard_stop(given: object) -> bool:
    if given is None:
        return True
    if not isinstance(given, bool):
        raise InvalidRequest(reason="hardStop must be a boolean")
    return given


def _notify_at_percent(given: object) -> int:
    if given is None:
        return _NOTIFY_PERCENT_DEFAULT
    if type(given) is not int or not 1 <= given <= 100:
        raise InvalidNotifyThreshold
    return given
