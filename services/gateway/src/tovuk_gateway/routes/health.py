"""Whether the gateway lives, is ready, and reaches the services behind it."""

import asyncio
import time
from typing import Any, Literal

from fastapi import APIRouter
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tovuk_gateway.routes import contract, models
from tovuk_gateway.routes.context import Context, success
from tovuk_kit.client import Channel
from tovuk_kit.errors import ServiceUnavailable, TovukError

#: How long one look at the services serves everybody who asks.
_REMEMBERED_SECONDS = 1.0
_TIMEOUT_SECONDS = 1.0

Reachable = Literal["ok", "unreachable"]


class Health:
    """Asks the services' standard health service, at most once a second."""

    def __init__(self, context: Context) -> None:
        self._groups: dict[str, list[Channel]] = {
            "control": [context.control.channel],
            "metering": [context.metering.channel],
            "kv": [replica.channel for replica in context.kv.replicas],
        }
        self._shards = context.sqlite.shards
        self._last: tuple[float, dict[str, Reachable]] = (-_REMEMBERED_SECONDS, {})

    async def services(self, *, fresh: bool = False) -> dict[str, Reachable]:
        """Each service's state; one of several replicas, or shards, is enough."""
        asked, states = self._last
        if not fresh and time.monotonic() - asked < _REMEMBERED_SECONDS:
            return states
        asking = {**self._groups, "sqlite": await self._sqlite()}
        groups = await asyncio.gather(
            *(asyncio.gather(*(_serves(channel) for channel in group)) for group in asking.values())
        )
        states = {name: "ok" if any(group) else "unreachable" for name, group in zip(asking, groups, strict=True)}
        self._last = (time.monotonic(), states)
        return states

    async def _sqlite(self) -> list[Channel]:
        try:
            return [shard.channel for shard in await self._shards.every()]
        except TovukError:
            # Who does not know where they are cannot reach them.
            return []

    async def ready(self, *, fresh: bool = False) -> bool:
        """Whether every service can be reached."""
        return all(state == "ok" for state in (await self.services(fresh=fresh)).values())


async def _serves(channel: Channel) -> bool:
    stub = health_pb2_grpc.HealthStub(channel.grpc)
    request = health_pb2.HealthCheckRequest()
    try:
        reply = await channel.unary(stub.Check, request, timeout_s=_TIMEOUT_SECONDS, retry=True)
    except TovukError:
        return False
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


def router(health: Health) -> APIRouter:
    """The health routes; none needs a token."""
    routes = APIRouter(tags=["health"])

    async def alive() -> Any:
        """The gateway answers; it began to listen when the services behind it were there."""
        return success({"ok": True})

    for path, name in (("/health", "getHealth"), ("/healthz", "getHealthz")):
        routes.add_api_route(
            path,
            alive,
            operation_id=name,
            summary="Is the gateway alive",
            responses=contract.answers(models.Alive, public=True),
        )

    @routes.get(
        "/readyz",
        operation_id="getReadyz",
        summary="Is the gateway ready",
        responses=contract.answers(models.Alive, "service_unavailable", public=True),
    )
    async def ready() -> Any:
        """503 names the first service that cannot be reached."""
        for name, state in (await health.services()).items():
            if state != "ok":
                raise ServiceUnavailable(service=name)
        return success({"ok": True})

    @routes.get(
        "/v1/status",
        operation_id="getStatus",
        summary="Which services can be reached",
        responses=contract.answers(models.Status, public=True),
    )
    async def status() -> Any:
        """Always 200: the answer is in the body."""
        services = await health.services()
        degraded = any(state != "ok" for state in services.values())
        return success({"status": "degraded" if degraded else "ok", "services": services})

    return routes
