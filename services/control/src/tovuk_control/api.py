"""gRPC: the wire to control's nouns and back, and nothing else."""

# The wire names its methods.
# ruff: noqa: N802

from collections.abc import Sequence
from functools import partial
from typing import Any

from tovuk.control.v1 import control_pb2 as wire
from tovuk.control.v1 import control_pb2_grpc as grpc_wire
from tovuk_control.errors import Unauthenticated
from tovuk_control.project.account import Accounts
from tovuk_control.project.activity import Activity
from tovuk_control.project.registry import Registry
from tovuk_control.project.service import Services
from tovuk_control.project.shards import Shards
from tovuk_control.project.token import Tokens
from tovuk_control.store.accounts import Account
from tovuk_control.store.activity import Entry
from tovuk_control.store.services import Service
from tovuk_control.store.shards import Move, Placement, Shard
from tovuk_control.store.tokens import Token
from tovuk_kit.capabilities import CAPABILITIES
from tovuk_kit.server import Registration

_SHA256_BYTES = 32


class DirectoryApi(grpc_wire.DirectoryServicer):
    """Who calls, and what a service reference means."""

    def __init__(self, tokens: Tokens, services: Services) -> None:
        self._tokens = tokens
        self._services = services

    async def Authenticate(self, request: wire.AuthenticateRequest, context: Any) -> wire.Caller:
        if len(request.token_sha256) != _SHA256_BYTES:
            raise Unauthenticated
        caller = await self._tokens.authenticate(request.token_sha256.hex(), control_call=request.control_call)
        return wire.Caller(
            account_id=caller.account_id,
            service_id=caller.service_id,
            scopes=caller.scopes.split(),
            plan=caller.plan,
            token_id=caller.token_id,
            expires_at_ms=caller.expires_at_ms,
        )

    async def ResolveService(self, request: wire.ResolveServiceRequest, context: Any) -> wire.Service:
        return _service(await self._services.resolve(request.account_id, request.ref))


class RegistryApi(grpc_wire.RegistryServicer):
    """The owners' side: claims and tombstones."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def Reserve(self, request: wire.ReserveRequest, context: Any) -> wire.ReserveReply:
        await self._registry.reserve(
            request.account_id,
            request.service_id,
            request.kind,
            request.resource_id,
            request.name,
            shard=request.shard,
        )
        return wire.ReserveReply()

    async def Confirm(self, request: wire.ResourceRef, context: Any) -> wire.RegistryReply:
        await self._registry.confirm(request.service_id, request.kind, request.resource_id)
        return wire.RegistryReply()

    async def Release(self, request: wire.ResourceRef, context: Any) -> wire.RegistryReply:
        await self._registry.release(request.service_id, request.kind, request.resource_id)
        return wire.RegistryReply()

    async def ListUnsettled(self, request: wire.ListUnsettledRequest, context: Any) -> wire.ListUnsettledReply:
        return wire.ListUnsettledReply(
            resources=(
                wire.ResourceRef(service_id=claim.service_id, kind=claim.kind, resource_id=claim.id, name=claim.name)
                for claim in await self._registry.unsettled(request.kind, request.shard)
            )
        )

    async def ListTombstones(self, request: wire.ListTombstonesRequest, context: Any) -> wire.ListTombstonesReply:
        return wire.ListTombstonesReply(service_ids=await self._registry.tombstones(request.owner))

    async def AckTombstone(self, request: wire.AckTombstoneRequest, context: Any) -> wire.RegistryReply:
        await self._registry.acknowledge(request.owner, request.service_id)
        return wire.RegistryReply()


class ShardsApi(grpc_wire.ShardsServicer):
    """The shards' side, and that of whoever looks for a database."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards

    async def ClaimShard(self, request: wire.ClaimShardRequest, context: Any) -> wire.ClaimShardReply:
        wanted = Shard(
            name=request.shard,
            address=request.address,
            store=request.store,
            lock_id=request.lock,
            holder=request.holder,
            fencing=0,
            renewals=0,
            lasts_ms=request.lasts_ms,
            renewed_at_ms=0,
        )
        owned, stands = await self._shards.claim(wanted, (request.ended_fencing, request.ended_renewals))
        return wire.ClaimShardReply(
            owned=owned, fencing=stands.fencing, renewals=stands.renewals, lasts_ms=stands.lasts_ms
        )

    async def ReleaseShard(self, request: wire.ReleaseShardRequest, context: Any) -> wire.ReleaseShardReply:
        await self._shards.release(request.shard, request.holder)
        return wire.ReleaseShardReply()

    async def ListShards(self, request: wire.ListShardsRequest, context: Any) -> wire.ListShardsReply:
        return wire.ListShardsReply(
            shards=(
                wire.Shard(
                    name=shard.name, address=shard.address, fencing=shard.fencing, live=live, databases=databases
                )
                for shard, live, databases in await self._shards.all()
            )
        )

    async def LocateDatabase(self, request: wire.LocateDatabaseRequest, context: Any) -> wire.Placement:
        return _placement(await self._shards.locate(request.service_id, request.ref))

    async def ListPlacements(self, request: wire.ListPlacementsRequest, context: Any) -> wire.ListPlacementsReply:
        placements = await self._shards.placements(request.service_id)
        return wire.ListPlacementsReply(placements=map(_placement, placements))

    async def ListShardDatabases(
        self, request: wire.ListShardDatabasesRequest, context: Any
    ) -> wire.ListShardDatabasesReply:
        store, databases = await self._shards.databases(request.shard)
        return wire.ListShardDatabasesReply(
            store=store,
            databases=(
                wire.PlacedDatabase(
                    id=database.id,
                    name=database.name,
                    service_id=database.service_id,
                    account_id=database.account_id,
                    created_at_ms=database.reserved_at_ms,
                )
                for database in databases
            ),
        )

    async def MoveDatabase(self, request: wire.MoveDatabaseRequest, context: Any) -> wire.Move:
        return _move(await self._shards.move(request.database_id, request.to))

    async def ListMoves(self, request: wire.ListMovesRequest, context: Any) -> wire.ListMovesReply:
        return wire.ListMovesReply(moves=map(_move, await self._shards.moves(request.shard)))

    async def CommitMove(self, request: wire.CommitMoveRequest, context: Any) -> wire.CommitMoveReply:
        move = Move(request.database_id, request.shard, request.to, "")
        return wire.CommitMoveReply(shard=await self._shards.commit_move(move, request.fencing))


class AccountsApi(grpc_wire.AccountsServicer):
    """The people's side: accounts, tokens, activity."""

    def __init__(self, accounts: Accounts, tokens: Tokens, activity: Activity) -> None:
        self._accounts = accounts
        self._tokens = tokens
        self._activity = activity

    async def GetAccount(self, request: wire.GetAccountRequest, context: Any) -> wire.Account:
        return _account(await self._accounts.get(request.account_id))

    async def UpdateAccount(self, request: wire.UpdateAccountRequest, context: Any) -> wire.Account:
        return _account(await self._accounts.update(request.account_id, request.handle, request.display_name))

    async def ListActivity(self, request: wire.ListActivityRequest, context: Any) -> wire.ListActivityReply:
        entries, next_cursor = await self._activity.page(request.account_id, request.limit, request.cursor)
        return wire.ListActivityReply(entries=map(_entry, entries), next_cursor=next_cursor)

    async def RecordActivity(self, request: wire.ActivityEntry, context: Any) -> wire.RecordActivityReply:
        await self._activity.record(
            Entry(request.id, request.account_id, request.kind, request.service_id, request.details_json, request.at_ms)
        )
        return wire.RecordActivityReply()

    async def CreateAccount(self, request: wire.CreateAccountRequest, context: Any) -> wire.CreateAccountReply:
        account, secret = await self._accounts.create(request.handle, request.display_name, request.plan)
        return wire.CreateAccountReply(account=_account(account), token=secret)

    async def SetAccountPlan(self, request: wire.SetAccountPlanRequest, context: Any) -> wire.Account:
        return _account(await self._accounts.set_plan(request.account_id, request.plan))

    async def ListAccounts(self, request: wire.ListAccountsRequest, context: Any) -> wire.ListAccountsReply:
        accounts, next_cursor = await self._accounts.page(request.limit, request.cursor)
        return wire.ListAccountsReply(accounts=map(_account, accounts), next_cursor=next_cursor)

    async def CreateToken(self, request: wire.CreateTokenRequest, context: Any) -> wire.CreateTokenReply:
        token, secret = await self._tokens.create(
            request.account_id,
            request.scope,
            service_ref=request.service_ref,
            label=request.label,
            expires_in_seconds=request.expires_in_seconds,
            by_operator=request.by_operator,
        )
        return wire.CreateTokenReply(token=_token(token), secret=secret)

    async def ListTokens(self, request: wire.ListTokensRequest, context: Any) -> wire.ListTokensReply:
        return wire.ListTokensReply(tokens=map(_token, await self._tokens.living(request.account_id)))

    async def RevokeToken(self, request: wire.RevokeTokenRequest, context: Any) -> wire.Token:
        return _token(await self._tokens.revoke(request.account_id, request.token_id))


class ServicesApi(grpc_wire.ServicesServicer):
    """The people's side: services."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def CreateService(self, request: wire.CreateServiceRequest, context: Any) -> wire.Service:
        return _service(
            await self._services.create(request.account_id, request.name, request.kind, dict(request.capabilities))
        )

    async def ListServices(self, request: wire.ListServicesRequest, context: Any) -> wire.ListServicesReply:
        services, next_cursor = await self._services.page(
            request.account_id, deleted=request.deleted, cursor=request.cursor
        )
        return wire.ListServicesReply(services=map(_service, services), next_cursor=next_cursor)

    async def DeleteService(self, request: wire.DeleteServiceRequest, context: Any) -> wire.Service:
        return _service(await self._services.delete(request.account_id, request.ref))

    async def RestoreService(self, request: wire.RestoreServiceRequest, context: Any) -> wire.Service:
        return _service(await self._services.restore(request.account_id, request.service_id))


def registrations(
    tokens: Tokens,
    services: Services,
    registry: Registry,
    shards: Shards,
    accounts: Accounts,
    activity: Activity,
) -> Sequence[Registration]:
    """Control's servicers, ready to be hosted."""
    return (
        partial(grpc_wire.add_DirectoryServicer_to_server, DirectoryApi(tokens, services)),
        partial(grpc_wire.add_RegistryServicer_to_server, RegistryApi(registry)),
        partial(grpc_wire.add_ShardsServicer_to_server, ShardsApi(shards)),
        partial(grpc_wire.add_AccountsServicer_to_server, AccountsApi(accounts, tokens, activity)),
        partial(grpc_wire.add_ServicesServicer_to_server, ServicesApi(services)),
    )


def _move(move: Move) -> wire.Move:
    return wire.Move(database_id=move.database_id, shard=move.shard, to=move.to, address=move.address)


def _placement(placement: Placement) -> wire.Placement:
    return wire.Placement(
        database_id=placement.database_id,
        shard=placement.shard,
        confirmed=placement.confirmed,
        moving_to=placement.moving_to,
    )


def _account(account: Account) -> wire.Account:
    return wire.Account(
        id=account.id,
        handle=account.handle,
        display_name=account.display_name,
        plan=account.plan,
        plan_revision=account.plan_revision,
        created_at_ms=account.created_at_ms,
    )


def _entry(entry: Entry) -> wire.ActivityEntry:
    return wire.ActivityEntry(
        id=entry.id,
        account_id=entry.account_id,
        kind=entry.kind,
        service_id=entry.service_id,
        details_json=entry.details_json,
        at_ms=entry.at_ms,
    )


def _token(token: Token) -> wire.Token:
    scopes = token.scopes.split()
    return wire.Token(
        id=token.id,
        scope=scopes[0],
        scopes=scopes,
        service_id=token.service_id,
        label=token.label,
        prefix=token.prefix,
        last_four=token.last_four,
        created_at_ms=token.created_at_ms,
        expires_at_ms=token.expires_at_ms,
        revoked_at_ms=token.revoked_at_ms,
    )


def _service(service: Service) -> wire.Service:
    return wire.Service(
        id=service.id,
        account_id=service.account_id,
        name=service.name,
        kind=service.kind,
        capabilities={name: name in service.capabilities for name in CAPABILITIES},
        created_at_ms=service.created_at_ms,
        deleted_at_ms=service.deleted_at_ms,
        purge_at_ms=service.purge_at_ms,
        resource_counts=service.resource_counts,
    )
