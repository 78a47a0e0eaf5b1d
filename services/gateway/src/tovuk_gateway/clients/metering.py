"""Metering as the gateway sees it: usage, caps, the catalogue."""

from typing import Any

from tovuk.metering.v1 import metering_pb2 as pb
from tovuk.metering.v1 import metering_pb2_grpc as stubs
from tovuk_kit.client import Channel

#: Metering waits up to five seconds for every holder to confirm a cap.
_CAP_TIMEOUT_SECONDS = 8.0


class MeteringClient:
    """Calls to metering. Every method raises what `Channel.unary` raises."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._usage = stubs.UsageStub(channel.grpc)

    async def usage(self, account_id: str) -> pb.GetUsageReply:
        """Used units, windows, caps, limits and the estimate of an account."""
        reply: pb.GetUsageReply = await self._read(self._usage.GetUsage, pb.GetUsageRequest(account_id=account_id))
        return reply

    async def catalogue(self) -> pb.GetCatalogueReply:
        """Products and plans of the price book, as JSON."""
        reply: pb.GetCatalogueReply = await self._read(self._usage.GetCatalogue, pb.GetCatalogueRequest())
        return reply

    async def caps(self, account_id: str) -> list[pb.CapState]:
        """The account's caps with their state."""
        return list((await self._read(self._usage.ListCaps, pb.ListCapsRequest(account_id=account_id))).caps)

    async def put_cap(
        self, account_id: str, *, metric: str, period: str, cap_value: int, hard_stop: bool, notify_at_percent: int
    ) -> pb.Cap:
        """The cap, in force when this returns. Setting the same cap again changes nothing, so it may be repeated."""
        request = pb.PutCapRequest(
            account_id=account_id,
            meter=metric,
            period=period,
            cap_value=cap_value,
            hard_stop=hard_stop,
            notify_at_percent=notify_at_percent,
        )
        reply: pb.Cap = await self.channel.unary(
            self._usage.PutCap, request, timeout_s=_CAP_TIMEOUT_SECONDS, retry=False
        )
        return reply

    async def delete_cap(self, account_id: str, *, metric: str, period: str) -> bool:
        """Whether there was such a cap."""
        request = pb.DeleteCapRequest(account_id=account_id, meter=metric, period=period)
        return bool((await self.channel.unary(self._usage.DeleteCap, request, retry=False)).deleted)

    async def breakdown(self, account_id: str) -> list[pb.BreakdownLine]:
        """Usage by service and resource."""
        reply = await self._read(self._usage.GetBreakdown, pb.GetBreakdownRequest(account_id=account_id))
        return list(reply.lines)

    async def _read(self, method: Any, request: Any) -> Any:
        return await self.channel.unary(method, request, timeout_s=3.0, retry=True)
