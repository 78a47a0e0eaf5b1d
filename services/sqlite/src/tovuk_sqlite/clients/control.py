"""Control's registry of resources, as this owner calls it."""

from dataclasses import dataclass

from tovuk.control.v1 import control_pb2 as wire
from tovuk.control.v1.control_pb2_grpc import RegistryStub
from tovuk_kit.client import Channel

KIND = "sqlite_database"
OWNER = "sqlite"


@dataclass(frozen=True, slots=True)
class Claim:
    """A database as the registry knows it."""

    service_id: str
    database_id: str
    name: str


class ControlRegistry:
    """Every call is idempotent and repeated within its deadline; raises what Channel.unary raises."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._stub = RegistryStub(channel.grpc)

    async def reserve(self, account_id: str, claim: Claim) -> None:
        """Claim the name and a place."""
        request = wire.ReserveRequest(
            account_id=account_id,
            service_id=claim.service_id,
            kind=KIND,
            resource_id=claim.database_id,
            name=claim.name,
        )
        await self._channel.unary(self._stub.Reserve, request, retry=True)

    async def confirm(self, claim: Claim) -> None:
        """The database exists."""
        await self._channel.unary(self._stub.Confirm, _reference(claim), retry=True)

    async def release(self, claim: Claim) -> None:
        """The database does not exist, or no longer."""
        await self._channel.unary(self._stub.Release, _reference(claim), retry=True)

    async def unsettled(self) -> list[Claim]:
        """Old claims that are neither confirmed nor released."""
        request = wire.ListUnsettledRequest(kind=KIND)
        reply: wire.ListUnsettledReply = await self._channel.unary(self._stub.ListUnsettled, request, retry=True)
        return [Claim(ref.service_id, ref.resource_id, ref.name) for ref in reply.resources]

    async def tombstones(self) -> list[str]:
        """Purged services whose databases are still to be removed."""
        request = wire.ListTombstonesRequest(owner=OWNER)
        reply: wire.ListTombstonesReply = await self._channel.unary(self._stub.ListTombstones, request, retry=True)
        return list(reply.service_ids)

    async def acknowledge(self, service_id: str) -> None:
        """Nothing is left of a purged service."""
        request = wire.AckTombstoneRequest(owner=OWNER, service_id=service_id)
        await self._channel.unary(self._stub.AckTombstone, request, retry=True)


def _reference(claim: Claim) -> wire.ResourceRef:
    return wire.ResourceRef(service_id=claim.service_id, kind=KIND, resource_id=claim.database_id, name=claim.name)
