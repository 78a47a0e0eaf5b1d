from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio

from tovuk.control.v1 import control_pb2 as wire
from tovuk.control.v1 import control_pb2_grpc as grpc_wire
from tovuk_control.api import registrations
from tovuk_control.project.account import Accounts
from tovuk_control.project.activity import Activity
from tovuk_control.project.registry import Registry
from tovuk_control.project.service import Services
from tovuk_control.project.shards import Shards
from tovuk_control.project.token import Tokens
from tovuk_kit.capabilities import CAPABILITIES
from tovuk_kit.client import Channel
from tovuk_kit.clock import FakeClock
from tovuk_kit.errors import RemoteError
from tovuk_kit.ids import new_id
from tovuk_kit.server import start_server
from tovuk_kit.tokens import digest

KEY = "an internal key of tests"


class Client:
    """Calls of control as the gateway and the owners make them: `await client.Authenticate(token_sha256=…)`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._stubs = [
            grpc_wire.DirectoryStub(channel.grpc),
            grpc_wire.RegistryStub(channel.grpc),
            grpc_wire.ShardsStub(channel.grpc),
            grpc_wire.AccountsStub(channel.grpc),
            grpc_wire.ServicesStub(channel.grpc),
        ]

    async def __call__(self, method: str, request: Any) -> Any:
        (stub,) = [stub for stub in self._stubs if hasattr(stub, method)]
        return await self._channel.unary(getattr(stub, method), request, retry=False)


@pytest_asyncio.fixture
async def control(
    tokens: Tokens,
    services: Services,
    registry: Registry,
    shards: Shards,
    accounts: Accounts,
    activity: Activity,
    tmp_path: Path,
) -> AsyncIterator[Client]:
    server = await start_server(
        f"unix:{tmp_path}/control.sock",
        internal_key=KEY,
        services=registrations(tokens, services, registry, shards, accounts, activity),
    )
    channel = Channel(server.target, KEY, "control")
    yield Client(channel)
    await channel.close()
    await server.stop()


@pytest_asyncio.fixture
async def ada(control: Client) -> SimpleNamespace:
    reply = await control("CreateAccount", wire.CreateAccountRequest(handle="ada", display_name="Ada", plan="free"))
    return SimpleNamespace(id=reply.account.id, token=reply.token)


async def test_a_token_is_turned_into_a_caller(control: Client, ada: SimpleNamespace) -> None:
    caller = await control("Authenticate", wire.AuthenticateRequest(token_sha256=digest(ada.token), control_call=True))
    assert (caller.account_id, list(caller.scopes), caller.plan, caller.service_id, caller.expires_at_ms) == (
        ada.id,
        ["user"],
        "free",
        "",
        0,
    )
    assert caller.token_id.startswith("token_")


@pytest.mark.parametrize("sha256", [b"", b"x" * 31, b"x" * 32, b"x" * 33])
async def test_any_other_token_is_unauthenticated(control: Client, ada: SimpleNamespace, sha256: bytes) -> None:
    with pytest.raises(RemoteError) as refused:
        await control("Authenticate", wire.AuthenticateRequest(token_sha256=sha256))
    assert refused.value.code == "unauthenticated"


async def test_the_1201st_control_call_of_a_minute_says_when_the_next_one_fits(
    control: Client, ada: SimpleNamespace, clock: FakeClock
) -> None:
    request = wire.AuthenticateRequest(token_sha256=digest(ada.token), control_call=True)
    for _ in range(1_200):
        await control("Authenticate", request)
    clock.advance(59_000)
    with pytest.raises(RemoteError) as refused:
        await control("Authenticate", request)
    assert (refused.value.code, refused.value.retry_after_ms) == ("rate_limited", 1_000)


async def test_a_service_lives_through_the_wire(control: Client, ada: SimpleNamespace, clock: FakeClock) -> None:
    made = await control(
        "CreateService",
        wire.CreateServiceRequest(account_id=ada.id, name="api", kind="rust_worker", capabilities={"queue": False}),
    )
    assert set(made.capabilities) == set(CAPABILITIES)
    assert {name for name, on in made.capabilities.items() if not on} == {"queue", "static_frontend"}
    resource = {"service_id": made.id, "kind": "kv_namespace", "resource_id": new_id("kv"), "name": "CACHE"}
    await control("Reserve", wire.ReserveRequest(account_id=ada.id, **resource))
    clock.advance(60_000)
    unsettled = await control("ListUnsettled", wire.ListUnsettledRequest(kind="kv_namespace"))
    assert list(unsettled.resources) == [wire.ResourceRef(**resource)]
    await control("Confirm", wire.ResourceRef(**resource))
    found = await control("ResolveService", wire.ResolveServiceRequest(account_id=ada.id, ref="api"))
    assert dict(found.resource_counts) == {"kv_namespace": 1}
    await control("Release", wire.ResourceRef(**resource))
    deleted = await control("DeleteService", wire.DeleteServiceRequest(account_id=ada.id, ref=made.id))
    assert deleted.purge_at_ms == clock.wall_ms() + 72 * 3_600_000
    listed = await control("ListServices", wire.ListServicesRequest(account_id=ada.id, deleted=True))
    assert [service.id for service in listed.services] == [made.id]
    restored = await control("RestoreService", wire.RestoreServiceRequest(account_id=ada.id, service_id=made.id))
    assert restored == made
    listed = await control("ListServices", wire.ListServicesRequest(account_id=ada.id))
    assert list(listed.services) == [made]


async def test_tombstones_travel_by_owner(control: Client) -> None:
    assert list((await control("ListTombstones", wire.ListTombstonesRequest(owner="kv"))).service_ids) == []
    await control("AckTombstone", wire.AckTombstoneRequest(owner="kv", service_id=new_id("service")))


async def test_a_shard_and_where_a_database_lies_travel(control: Client, ada: SimpleNamespace) -> None:
    claim = wire.ClaimShardRequest(
        shard="shard-1", address="unix:/1", store="folder", lock="lock", holder="process", lasts_ms=30_000
    )
    for renewals in (1, 2):
        reply = await control("ClaimShard", claim)
        assert (reply.owned, reply.fencing, reply.renewals, reply.lasts_ms) == (True, 1, renewals, 30_000)
    service = await control(
        "CreateService", wire.CreateServiceRequest(account_id=ada.id, name="api", kind="rust_worker")
    )
    database_id = new_id("sqlite")
    await control(
        "Reserve",
        wire.ReserveRequest(
            account_id=ada.id,
            service_id=service.id,
            kind="sqlite_database",
            resource_id=database_id,
            name="DB",
            shard="shard-1",
        ),
    )
    placement = wire.Placement(database_id=database_id, shard="shard-1")
    assert await control("LocateDatabase", wire.LocateDatabaseRequest(service_id=service.id, ref="DB")) == placement
    listed = await control("ListPlacements", wire.ListPlacementsRequest(service_id=service.id))
    assert list(listed.placements) == [placement]
    await control("ReleaseShard", wire.ReleaseShardRequest(shard="shard-1", holder="process"))
    (shard,) = (await control("ListShards", wire.ListShardsRequest())).shards
    assert shard == wire.Shard(name="shard-1", address="unix:/1", fencing=1, live=False, databases=1)


async def test_a_token_lives_through_the_wire(control: Client, ada: SimpleNamespace, clock: FakeClock) -> None:
    clock.advance(1)
    made = await control(
        "CreateToken",
        wire.CreateTokenRequest(account_id=ada.id, scope="read", label="ci", expires_in_seconds=60),
    )
    assert (made.token.scope, list(made.token.scopes), made.token.label) == ("read", ["read"], "ci")
    assert (made.token.prefix, made.token.last_four) == (made.secret[:15], made.secret[-4:])
    assert made.token.expires_at_ms == clock.wall_ms() + 60_000
    listed = await control("ListTokens", wire.ListTokensRequest(account_id=ada.id))
    assert [token.label for token in listed.tokens] == ["first token", "ci"]
    revoked = await control("RevokeToken", wire.RevokeTokenRequest(account_id=ada.id, token_id=made.token.id))
    assert revoked.revoked_at_ms == clock.wall_ms()
    with pytest.raises(RemoteError) as refused:
        await control("CreateToken", wire.CreateTokenRequest(account_id=ada.id, scope="operator"))
    assert (refused.value.code, refused.value.params) == ("forbidden_scope", {"scope": "operator"})
    made = await control("CreateToken", wire.CreateTokenRequest(account_id=ada.id, scope="operator", by_operator=True))
    assert made.token.scope == "operator"


async def test_an_account_lives_through_the_wire(control: Client, ada: SimpleNamespace) -> None:
    account = await control("GetAccount", wire.GetAccountRequest(account_id=ada.id))
    assert (account.handle, account.display_name, account.plan, account.plan_revision) == ("ada", "Ada", "free", 1)
    renamed = await control("UpdateAccount", wire.UpdateAccountRequest(account_id=ada.id, handle="lovelace"))
    assert renamed.display_name == "lovelace"
    changed = await control("SetAccountPlan", wire.SetAccountPlanRequest(account_id=ada.id, plan="pro"))
    assert (changed.handle, changed.plan, changed.plan_revision) == ("lovelace", "pro", 2)
    listed = await control("ListAccounts", wire.ListAccountsRequest(limit=1))
    assert (list(listed.accounts), listed.next_cursor) == ([changed], "")


async def test_activity_travels_both_ways(control: Client, ada: SimpleNamespace) -> None:
    entry = wire.ActivityEntry(
        id="cap-1", account_id=ada.id, kind="cap_reached", details_json='{"metric": "kv_reads"}', at_ms=7
    )
    for _ in range(2):
        await control("RecordActivity", entry)
    first = await control("ListActivity", wire.ListActivityRequest(account_id=ada.id, limit=1))
    assert list(first.entries) == [entry]
    last = await control("ListActivity", wire.ListActivityRequest(account_id=ada.id, cursor=first.next_cursor))
    assert [found.kind for found in last.entries] == ["account_created"]
    assert last.next_cursor == ""


async def test_a_nul_in_any_text_is_refused_by_name_and_never_reaches_the_database(
    control: Client, ada: SimpleNamespace
) -> None:
    nul = "a\0b"
    requests = {
        "ResolveService": wire.ResolveServiceRequest(account_id=ada.id, ref=nul),
        "GetAccount": wire.GetAccountRequest(account_id=nul),
        "UpdateAccount": wire.UpdateAccountRequest(account_id=ada.id, handle="ada", display_name=nul),
        "ListActivity": wire.ListActivityRequest(account_id=nul),
        "RecordActivity": wire.ActivityEntry(id="x", account_id=nul, kind="x"),
        "CreateAccount": wire.CreateAccountRequest(handle="x", display_name=nul, plan="free"),
        "SetAccountPlan": wire.SetAccountPlanRequest(account_id=nul, plan="free"),
        "ListAccounts": wire.ListAccountsRequest(cursor=nul),
        "CreateToken": wire.CreateTokenRequest(account_id=ada.id, scope="runtime", service_ref=nul),
        "ListTokens": wire.ListTokensRequest(account_id=nul),
        "RevokeToken": wire.RevokeTokenRequest(account_id=ada.id, token_id=nul),
        "CreateService": wire.CreateServiceRequest(account_id=nul, name="api", kind="rust_worker"),
        "ListServices": wire.ListServicesRequest(account_id=nul),
        "DeleteService": wire.DeleteServiceRequest(account_id=ada.id, ref=nul),
        "RestoreService": wire.RestoreServiceRequest(account_id=ada.id, service_id=nul),
        "Reserve": wire.ReserveRequest(
            account_id=nul, service_id=nul, kind="queue", resource_id=new_id("queue"), name="jobs"
        ),
        "Confirm": wire.ResourceRef(service_id=nul, kind="queue", resource_id=nul),
        "Release": wire.ResourceRef(service_id=nul, kind="queue", resource_id=nul),
        "ListUnsettled": wire.ListUnsettledRequest(kind=nul),
        "ListTombstones": wire.ListTombstonesRequest(owner=nul),
        "AckTombstone": wire.AckTombstoneRequest(owner="kv", service_id=nul),
    }
    for method, request in requests.items():
        with pytest.raises(RemoteError) as refused:
            await control(method, request)
        assert refused.value.code != "internal_error", method
