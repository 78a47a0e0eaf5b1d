"""Tells metering which plan an account is on."""

from tovuk.metering.v1.metering_pb2 import SetPlanRequest
from tovuk.metering.v1.metering_pb2_grpc import UsageStub
from tovuk_kit.client import Channel


class MeteringClient:
    """Metering's admin plane, as far as control uses it."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._usage = UsageStub(channel.grpc)

    async def set_plan(self, account_id: str, plan: str, revision: int) -> None:
        """Durable in metering on return; idempotent, the higher revision wins. Raises TovukError."""
        request = SetPlanRequest(account_id=account_id, plan=plan, revision=revision)
        await self._channel.unary(self._usage.SetPlan, request, retry=True)
