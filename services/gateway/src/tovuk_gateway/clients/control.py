"""Control as the gateway sees it: who calls, what a reference means, where databases lie, the accounts' own data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tovuk.control.v1 import control_pb2 as pb
from tovuk.control.v1 import control_pb2_grpc as stubs
from tovuk_kit.client import Channel


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a token stands for. `service_id` is a runtime token's only service, empty otherwise."""

    account_id: str
    service_id: str
    scopes: frozenset[str]
    plan: str
    token_id: str
    #: Unix milliseconds; 0 for never.
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class Service:
    """A service of the caller's account."""

    id: str
    name: str
    kind: str
    capabilities: Mapping[str, bool]
    #: Unix milliseconds; 0 while not deleted.
    created_at_ms: int
    deleted_at_ms: int
    purge_at_ms: int
    #: Confirmed resources by kind, such as kv_namespace.
    resource_counts: Mapping[str, int]


def _service(message: pb.Service) -> Service:
    return Service(
        message.id,
        message.name,
        message.kind,
        dict(message.capabilities),
        message.created_at_ms,
        message.deleted_at_ms,
        message.purge_at_ms,
        dict(message.resource_counts),
    )


class ControlClient:
    """Calls to control. Every method raises what `Channel.unary` raises."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._directory = stubs.DirectoryStub(channel.grpc)
        self._accounts = stubs.AccountsStub(channel.grpc)
        self._services = stubs.ServicesStub(channel.grpc)
        self._shards = stubs.ShardsStub(channel.grpc)

    async def authenticate(self, token_sha256: bytes, *, control_call: bool) -> Caller:
        """The caller behind a token. A control call counts against the token's rate limit."""
        request = pb.AuthenticateRequest(token_sha256=token_sha256, control_call=control_call)
        # A repeat may count a control call twice against the rate limit, which is harmless.
        reply = await self._read(self._directory.Authenticate, request, timeout_s=2.0)
        return Caller(
            reply.account_id,
            reply.service_id,
            frozenset(reply.scopes),
            reply.plan,
            reply.token_id,
            reply.expires_at_ms,
        )

    async def resolve_service(self, account_id: str, ref: str) -> Service:
        """The account's service of this id or name; service_not_found for any other."""
        request = pb.ResolveServiceRequest(account_id=account_id, ref=ref)
        return _service(await self._read(self._directory.ResolveService, request, timeout_s=2.0))

    async def list_services(self, account_id: str, *, deleted: bool = False) -> list[Service]:
        """The account's living services, or those that can still be restored."""
        request = pb.ListServicesRequest(account_id=account_id, deleted=deleted)
        services: list[Service] = []
        while True:
            reply = await self._read(self._services.ListServices, request)
            services += [_service(message) for message in reply.services]
            if not reply.next_cursor:
                return services
            request.cursor = reply.next_cursor

    async def create_service(
        self, account_id: str, *, name: str, kind: str, capabilities: Mapping[str, bool]
    ) -> Service:
        """A new service; capabilities that are left out take their defaults."""
        request = pb.CreateServiceRequest(account_id=account_id, name=name, kind=kind, capabilities=capabilities)
        return _service(await self._write(self._services.CreateService, request))

    async def delete_service(self, account_id: str, ref: str) -> Service:
        """The service, hidden from now on."""
        request = pb.DeleteServiceRequest(account_id=account_id, ref=ref)
        return _service(await self._write(self._services.DeleteService, request))

    async def restore_service(self, account_id: str, service_id: str) -> Service:
        """The service, back as it was."""
        request = pb.RestoreServiceRequest(account_id=account_id, service_id=service_id)
        return _service(await self._write(self._services.RestoreService, request))

    async def list_shards(self) -> list[pb.Shard]:
        """Every shard, the one with the fewest databases first."""
        reply: pb.ListShardsReply = await self._read(self._shards.ListShards, pb.ListShardsRequest(), timeout_s=2.0)
        return list(reply.shards)

    async def locate_database(self, service_id: str, ref: str) -> pb.Placement:
        """Where the service's database of this id or name lies."""
        request = pb.LocateDatabaseRequest(service_id=service_id, ref=ref)
        reply: pb.Placement = await self._read(self._shards.LocateDatabase, request, timeout_s=2.0)
        return reply

    async def list_placements(self, service_id: str) -> list[pb.Placement]:
        """Where each database of the service lies, those that are being created included."""
        request = pb.ListPlacementsRequest(service_id=service_id)
        reply: pb.ListPlacementsReply = await self._read(self._shards.ListPlacements, request)
        return list(reply.placements)

    async def move_database(self, database_id: str, to: str) -> pb.Move:
        """The move of a database to a shard, as noted."""
        request = pb.MoveDatabaseRequest(database_id=database_id, to=to)
        # Noted twice it is the same.
        reply: pb.Move = await self._read(self._shards.MoveDatabase, request)
        return reply

    async def get_account(self, account_id: str) -> pb.Account:
        """The account itself."""
        reply: pb.Account = await self._read(self._accounts.GetAccount, pb.GetAccountRequest(account_id=account_id))
        return reply

    async def update_account(self, account_id: str, *, handle: str, display_name: str) -> pb.Account:
        """The account with its new handle and name."""
        request = pb.UpdateAccountRequest(account_id=account_id, handle=handle, display_name=display_name)
        reply: pb.Account = await self._write(self._accounts.UpdateAccount, request)
        return reply

    async def list_activity(self, account_id: str, *, limit: int, cursor: str) -> pb.ListActivityReply:
        """One page of the account's activity, newest first; a limit of 0 is the default."""
        request = pb.ListActivityRequest(account_id=account_id, limit=limit, cursor=cursor)
        reply: pb.ListActivityReply = await self._read(self._accounts.ListActivity, request)
        return reply

    async def create_token(
        self, account_id: str, *, scope: str, service_ref: str, label: str, expires_in_seconds: int, by_operator: bool
    ) -> pb.CreateTokenReply:
        """A new token and its secret, which is never told again."""
        request = pb.CreateTokenRequest(
            account_id=account_id,
            scope=scope,
            service_ref=service_ref,
            label=label,
            expires_in_seconds=expires_in_seconds,
            by_operator=by_operator,
        )
        reply: pb.CreateTokenReply = await self._write(self._accounts.CreateToken, request)
        return reply

    async def list_tokens(self, account_id: str) -> list[pb.Token]:
        """The account's tokens without their secrets."""
        reply = await self._read(self._accounts.ListTokens, pb.ListTokensRequest(account_id=account_id))
        return list(reply.tokens)

    async def revoke_token(self, account_id: str, token_id: str) -> pb.Token:
        """The token, of no use from now on."""
        request = pb.RevokeTokenRequest(account_id=account_id, token_id=token_id)
        reply: pb.Token = await self._write(self._accounts.RevokeToken, request)
        return reply

    async def create_account(self, *, handle: str, display_name: str, plan: str) -> pb.CreateAccountReply:
        """A new account and its first token."""
        request = pb.CreateAccountRequest(handle=handle, display_name=display_name, plan=plan)
        reply: pb.CreateAccountReply = await self._write(self._accounts.CreateAccount, request)
        return reply

    async def set_account_plan(self, account_id: str, plan: str) -> pb.Account:
        """The account on its new plan."""
        request = pb.SetAccountPlanRequest(account_id=account_id, plan=plan)
        reply: pb.Account = await self._write(self._accounts.SetAccountPlan, request)
        return reply

    async def list_accounts(self, *, limit: int, cursor: str) -> pb.ListAccountsReply:
        """One page of all accounts."""
        reply: pb.ListAccountsReply = await self._read(
            self._accounts.ListAccounts, pb.ListAccountsRequest(limit=limit, cursor=cursor)
        )
        return reply

    async def _read(self, method: Any, request: Any, timeout_s: float = 5.0) -> Any:
        return await self.channel.unary(method, request, timeout_s=timeout_s, retry=True)

    async def _write(self, method: Any, request: Any) -> Any:
        return await self.channel.unary(method, request, retry=False)
