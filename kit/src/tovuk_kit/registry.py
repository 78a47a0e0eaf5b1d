"""Control's registry of resources, as the service that owns resources of one kind calls it."""

from dataclasses import dataclass

from tovuk.control.v1 import control_pb2 as wire
from tovuk.control.v1.control_pb2_grpc import RegistryStub
from tovuk_kit.client import Channel


@dataclass(frozen=True, slots=True)
class Claim:
    """A resource as the registry knows it."""

    service_id: str
    resource_id: str
    name: str


class Registry:
    """Every call is idempotent and repeated within its deadline; raises what Channel.unary raises."""

    def __init__(self, channel: Channel, *, kind: str, owner: str, shard: str = "") -> None:
        """`owner` is who removes what a purged service leaves; claims are those of `shard`, where there are shards."""
        self._channel = channel
        self._kind = kind
        self._owner = owner
        self._shard = shard
        self._stub = RegistryStub(channel.grpc)

    async def reserve(self, account_id: str, claim: Claim) -> None:
        """Claim the name and a place."""
        request = wire.ReserveRequest(
            account_id=account_id,
            service_id=claim.service_id,
            kind=self._kind,
            resource_id=claim.resource_id,
            name=claim.name,
            shard=self._shard,
        )
        await self._channel.unary(self._stub.Reserve, request, retry=True)

    async def confirm(self, claim: Claim) -> None:
        """The resource exists."""
        await self._channel.unary(self._stub.Confirm, self._reference(claim), retry=True)

    async def release(self, claim: Claim) -> None:
        """The resource does not exist, or no longer."""
        await self._channel.unary(self._stub.Release, self._reference(claim), retry=True)

    async def unsettled(self) -> list[Claim]:
        """Old claims that are neither confirmed nor released."""
        request = wire.ListUnsettledRequest(kind=self._kind, shard=self._shard)
        reply: wire.ListUnsettledReply = await self._channel.unary(self._stub.ListUnsettled, request, retry=True)
        return [Claim(ref.service_id, ref.resource_id, ref.name) for ref in reply.resources]

    async def tombstones(self) -> list[str]:
        """Purged services whose resources are still to be removed."""
        request = wire.ListTombstonesRequest(owner=self._owner)
        reply: wire.ListTombstonesReply = await self._channel.unary(self._stub.ListTombstones, request, retry=True)
        return list(reply.service_ids)

    async def acknowledge(self, service_id: str) -> None:
        """Nothing is left of a purged service."""
        request = wire.AckTombstoneRequest(owner=self._owner, service_id=service_id)
        await self._channel.unary(self._stub.AckTombstone, request, retry=True)

    def _reference(self, claim: Claim) -> wire.ResourceRef:
        return wire.ResourceRef(
            service_id=claim.service_id, kind=self._kind, resource_id=claim.resource_id, name=claim.name
        )
