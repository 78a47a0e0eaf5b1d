from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AuthenticateRequest(_message.Message):
    __slots__ = ("token_sha256", "control_call")
    TOKEN_SHA256_FIELD_NUMBER: _ClassVar[int]
    CONTROL_CALL_FIELD_NUMBER: _ClassVar[int]
    token_sha256: bytes
    control_call: bool
    def __init__(self, token_sha256: _Optional[bytes] = ..., control_call: _Optional[bool] = ...) -> None: ...

class Caller(_message.Message):
    __slots__ = ("account_id", "service_id", "scopes", "plan", "token_id", "expires_at_ms")
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    SERVICE_ID_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_MS_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    service_id: str
    scopes: _containers.RepeatedScalarFieldContainer[str]
    plan: str
    token_id: str
    expires_at_ms: int
    def __init__(self, account_id: _Optional[str] = ..., service_id: _Optional[str] = ..., scopes: _Optional[_Iterable[str]] = ..., plan: _Optional[str] = ..., token_id: _Optional[str] = ..., expires_at_ms: _Optional[int] = ...) -> None: ...

class ResolveServiceRequest(_message.Message):
    __slots__ = ("account_id", "ref")
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    REF_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    ref: str
    def __init__(self, account_id: _Optional[str] = ..., ref: _Optional[str] = ...) -> None: ...

class Service(_message.Message):
    __slots__ = ("id", "account_id", "name", "kind", "capabilities", "created_at_ms", "deleted_at_ms", "purge_at_ms", "resource_counts")
    class CapabilitiesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bool
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bool] = ...) -> None: ...
    class ResourceCountsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    DELETED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    PURGE_AT_MS_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_COUNTS_FIELD_NUMBER: _ClassVar[int]
    id: str
    account_id: str
    name: str
    kind: str
    capabilities: _containers.ScalarMap[str, bool]
    created_at_ms: int
    deleted_at_ms: int
    purge_at_ms: int
    resource_counts: _containers.ScalarMap[str, int]
    def __init__(self, id: _Optional[str] = ..., account_id: _Optional[str] = ..., name: _Optional[str] = ..., kind: _Optional[str] = ..., capabilities: _Optional[_Mapping[str, bool]] = ..., created_at_ms: _Optional[int] = ..., deleted_at_ms: _Optional[int] = ..., purge_at_ms: _Optional[int] = ..., resource_counts: _Optional[_Mapping[str, int]] = ...) -> None: ...

class ReserveRequest(_message.Message):
    __slots__ = ("account_id", "service_id", "kind", "resource_id", "name", "shard")
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    SERVICE_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    service_id: str
    kind: str
    resource_id: str
    name: str
    shard: str
    def __init__(self, account_id: _Optional[str] = ..., service_id: _Optional[str] = ..., kind: _Optional[str] = ..., resource_id: _Optional[str] = ..., name: _Optional[str] = ..., shard: _Optional[str] = ...) -> None: ...

class ReserveReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ResourceRef(_message.Message):
    __slots__ = ("service_id", "kind", "resource_id", "name")
    SERVICE_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    service_id: str
    kind: str
    resource_id: str
    name: str
    def __init__(self, service_id: _Optional[str] = ..., kind: _Optional[str] = ..., resource_id: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class RegistryReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListUnsettledRequest(_message.Message):
    __slots__ = ("kind", "shard")
    KIND_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    kind: str
    shard: str
    def __init__(self, kind: _Optional[str] = ..., shard: _Optional[str] = ...) -> None: ...

class ListUnsettledReply(_message.Message):
    __slots__ = ("resources",)
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    resources: _containers.RepeatedCompositeFieldContainer[ResourceRef]
    def __init__(self, resources: _Optional[_Iterable[_Union[ResourceRef, _Mapping]]] = ...) -> None: ...

class ListTombstonesRequest(_message.Message):
    __slots__ = ("owner",)
    OWNER_FIELD_NUMBER: _ClassVar[int]
    owner: str
    def __init__(self, owner: _Optional[str] = ...) -> None: ...

class ListTombstonesReply(_message.Message):
    __slots__ = ("service_ids",)
    SERVICE_IDS_FIELD_NUMBER: _ClassVar[int]
    service_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, service_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class AckTombstoneRequest(_message.Message):
    __slots__ = ("owner", "service_id")
    OWNER_FIELD_NUMBER: _ClassVar[int]
    SERVICE_ID_FIELD_NUMBER: _ClassVar[int]
    owner: str
    service_id: str
    def __init__(self, owner: _Optional[str] = ..., service_id: _Optional[str] = ...) -> None: ...

class ClaimShardRequest(_message.Message):
    __slots__ = ("shard", "address", "store", "lock", "holder", "lasts_ms", "ended_fencing", "ended_renewals")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    LOCK_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    LASTS_MS_FIELD_NUMBER: _ClassVar[int]
    ENDED_FENCING_FIELD_NUMBER: _ClassVar[int]
    ENDED_RENEWALS_FIELD_NUMBER: _ClassVar[int]
    shard: str
    address: str
    store: str
    lock: str
    holder: str
    lasts_ms: int
    ended_fencing: int
    ended_renewals: int
    def __init__(self, shard: _Optional[str] = ..., address: _Optional[str] = ..., store: _Optional[str] = ..., lock: _Optional[str] = ..., holder: _Optional[str] = ..., lasts_ms: _Optional[int] = ..., ended_fencing: _Optional[int] = ..., ended_renewals: _Optional[int] = ...) -> None: ...

class ClaimShardReply(_message.Message):
    __slots__ = ("owned", "fencing", "renewals", "lasts_ms")
    OWNED_FIELD_NUMBER: _ClassVar[int]
    FENCING_FIELD_NUMBER: _ClassVar[int]
    RENEWALS_FIELD_NUMBER: _ClassVar[int]
    LASTS_MS_FIELD_NUMBER: _ClassVar[int]
    owned: bool
    fencing: int
    renewals: int
    lasts_ms: int
    def __init__(self, owned: _Optional[bool] = ..., fencing: _Optional[int] = ..., renewals: _Optional[int] = ..., lasts_ms: _Optional[int] = ...) -> None: ...

class ReleaseShardRequest(_message.Message):
    __slots__ = ("shard", "holder")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    shard: str
    holder: str
    def __init__(self, shard: _Optional[str] = ..., holder: _Optional[str] = ...) -> None: ...

class ReleaseShardReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListShardsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Shard(_message.Message):
    __slots__ = ("name", "address", "fencing", "live", "databases")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    FENCING_FIELD_NUMBER: _ClassVar[int]
    LIVE_FIELD_NUMBER: _ClassVar[int]
    DATABASES_FIELD_NUMBER: _ClassVar[int]
    name: str
    address: str
    fencing: int
    live: bool
    databases: int
    def __init__(self, name: _Optional[str] = ..., address: _Optional[str] = ..., fencing: _Optional[int] = ..., live: _Optional[bool] = ..., databases: _Optional[int] = ...) -> None: ...

class ListShardsReply(_message.Message):
    __slots__ = ("shards",)
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    shards: _containers.RepeatedCompositeFieldContainer[Shard]
    def __init__(self, shards: _Optional[_Iterable[_Union[Shard, _Mapping]]] = ...) -> None: ...

class LocateDatabaseRequest(_message.Message):
    __slots__ = ("service_id", "ref")
    SERVICE_ID_FIELD_NUMBER: _ClassVar[int]
    REF_FIELD_NUMBER: _ClassVar[int]
    service_id: str
    ref: str
    def __init__(self, service_id: _Optional[str] = ..., ref: _Optional[str] = ...) -> None: ...

class Placement(_message.Message):
    __slots__ = ("database_id", "shard", "confirmed", "moving_to")
    DATABASE_ID_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    CONFIRMED_FIELD_NUMBER: _ClassVar[int]
    MOVING_TO_FIELD_NUMBER: _ClassVar[int]
    database_id: str
    shard: str
    confirmed: bool
    moving_to: str
    def __init__(self, database_id: _Optional[str] = ..., shard: _Optional[str] = ..., confirmed: _Optional[bool] = ..., moving_to: _Optional[str] = ...) -> None: ...

class ListShardDatabasesRequest(_message.Message):
    __slots__ = ("shard",)
    SHARD_FIELD_NUMBER: _ClassVar[int]
    shard: str
    def __init__(self, shard: _Optional[str] = ...) -> None: ...

class PlacedDatabase(_message.Message):
    __slots__ = ("id", "name", "service_id", "account_id", "created_at_ms")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SERVICE_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    service_id: str
    account_id: str
    created_at_ms: int
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., service_id: _Optional[str] = ..., account_id: _Optional[str] = ..., created_at_ms: _Optional[int] = ...) -> None: ...

class ListShardDatabasesReply(_message.Message):
    __slots__ = ("store", "databases")
    STORE_FIELD_NUMBER: _ClassVar[int]
    DATABASES_FIELD_NUMBER: _ClassVar[int]
    store: str
    databases: _containers.RepeatedCompositeFieldContainer[PlacedDatabase]
    def __init__(self, store: _Optional[str] = ..., databases: _Optional[_Iterable[_Union[PlacedDatabase, _Mapping]]] = ...) -> None: ...

class MoveDatabaseRequest(_message.Message):
    __slots__ = ("database_id", "to")
    DATABASE_ID_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    database_id: str
    to: str
    def __init__(self, database_id: _Optional[str] = ..., to: _Optional[str] = ...) -> None: ...

class Move(_message.Message):
    __slots__ = ("database_id", "shard", "to", "address")
    DATABASE_ID_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    database_id: str
    shard: str
    to: str
    address: str
    def __init__(self, database_id: _Optional[str] = ..., shard: _Optional[str] = ..., to: _Optional[str] = ..., address: _Optional[str] = ...) -> None: ...

class ListMovesRequest(_message.Message):
    __slots__ = ("shard",)
    SHARD_FIELD_NUMBER: _ClassVar[int]
    shard: str
    def __init__(self, shard: _Optional[str] = ...) -> None: ...

class ListMovesReply(_message.Message):
    __slots__ = ("moves",)
    MOVES_FIELD_NUMBER: _ClassVar[int]
    moves: _containers.RepeatedCompositeFieldContainer[Move]
    def __init__(self, moves: _Optional[_Iterable[_Union[Move, _Mapping]]] = ...) -> None: ...

class CommitMoveRequest(_message.Message):
    __slots__ = ("database_id", "shard", "fencing", "to")
    DATABASE_ID_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    FENCING_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    database_id: str
    shard: str
    fencing: int
    to: str
    def __init__(self, database_id: _Optional[str] = ..., shard: _Optional[str] = ..., fencing: _Optional[int] = ..., to: _Optional[str] = ...) -> None: ...

class CommitMoveReply(_message.Message):
    __slots__ = ("shard",)
    SHARD_FIELD_NUMBER: _ClassVar[int]
    shard: str
    def __init__(self, shard: _Optional[str] = ...) -> None: ...

class ListPlacementsRequest(_message.Message):
    __slots__ = ("service_id",)
    SERVICE_ID_FIELD_NUMBER: _ClassVar[int]
    service_id: str
    def __init__(self, service_id: _Optional[str] = ...) -> None: ...

class ListPlacementsReply(_message.Message):
    __slots__ = ("placements",)
    PLACEMENTS_FIELD_NUMBER: _ClassVar[int]
    placements: _containers.RepeatedCompositeFieldContainer[Placement]
    def __init__(self, placements: _Optional[_Iterable[_Union[Placement, _Mapping]]] = ...) -> None: ...

class GetAccountRequest(_message.Message):
    __slots__ = ("account_id",)
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    def __init__(self, account_id: _Optional[str] = ...) -> None: ...

class Account(_message.Message):
    __slots__ = ("id", "handle", "display_name", "plan", "plan_revision", "created_at_ms")
    ID_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    PLAN_REVISION_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    id: str
    handle: str
    display_name: str
    plan: str
    plan_revision: int
    created_at_ms: int
    def __init__(self, id: _Optional[str] = ..., handle: _Optional[str] = ..., display_name: _Optional[str] = ..., plan: _Optional[str] = ..., plan_revision: _Optional[int] = ..., created_at_ms: _Optional[int] = ...) -> None: ...

class UpdateAccountRequest(_message.Message):
    __slots__ = ("account_id", "handle", "display_name")
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    handle: str
    display_name: str
    def __init__(self, account_id: _Optional[str] = ..., handle: _Optional[str] = ..., display_name: _Optional[str] = ...) -> None: ...

class ListActivityRequest(_message.Message):
    __slots__ = ("account_id", "limit", "cursor")
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    limit: int
    cursor: str
    def __init__(self, account_id: _Optional[str] = ..., limit: _Optional[int] = ..., cursor: _Optional[str] = ...) -> None: ...

class ActivityEntry(_message.Message):
    __slots__ = ("id", "account_id", "kind", "service_id", "details_json", "at_ms")
    ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SERVICE_ID_FIELD_NUMBER: _ClassVar[int]
    DETAILS_JSON_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    id: str
    account_id: str
    kind: str
    service_id: str
    details_json: str
    at_ms: int
    def __init__(self, id: _Optional[str] = ..., account_id: _Optional[str] = ..., kind: _Optional[str] = ..., service_id: _Optional[str] = ..., details_json: _Optional[str] = ..., at_ms: _Optional[int] = ...) -> None: ...

class ListActivityReply(_message.Message):
    __slots__ = ("entries", "next_cursor")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_CURSOR_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[ActivityEntry]
    next_cursor: str
    def __init__(self, entries: _Optional[_Iterable[_Union[ActivityEntry, _Mapping]]] = ..., next_cursor: _Optional[str] = ...) -> None: ...

class RecordActivityReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CreateAccountRequest(_message.Message):
    __slots__ = ("handle", "display_name", "plan")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    handle: str
    display_name: str
    plan: str
    def __init__(self, handle: _Optional[str] = ..., display_name: _Optional[str] = ..., plan: _Optional[str] = ...) -> None: ...

class CreateAccountReply(_message.Message):
    __slots__ = ("account", "token")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    account: Account
    token: str
    def __init__(self, account: _Optional[_Union[Account, _Mapping]] = ..., token: _Optional[str] = ...) -> None: ...

class SetAccountPlanRequest(_message.Message):
    __slots__ = ("account_id", "plan")
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    plan: str
    def __init__(self, account_id: _Optional[str] = ..., plan: _Optional[str] = ...) -> None: ...

class ListAccountsRequest(_message.Message):
    __slots__ = ("limit", "cursor")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    limit: int
    cursor: str
    def __init__(self, limit: _Optional[int] = ..., cursor: _Optional[str] = ...) -> None: ...

class ListAccountsReply(_message.Message):
    __slots__ = ("accounts", "next_cursor")
    ACCOUNTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_CURSOR_FIELD_NUMBER: _ClassVar[int]
    accounts: _containers.RepeatedCompositeFieldContainer[Account]
    next_cursor: str
    def __init__(self, accounts: _Optional[_Iterable[_Union[Account, _Mapping]]] = ..., next_cursor: _Optional[str] = ...) -> None: ...

class Token(_message.Message):
    __slots__ = ("id", "scope", "service_id", "label", "created_at_ms", "expires_at_ms", "revoked_at_ms", "prefix", "scopes", "last_four")
    ID_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    SERVICE_ID_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_MS_FIELD_NUMBER: _ClassVar[int]
    REVOKED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    LAST_FOUR_FIELD_NUMBER: _ClassVar[int]
    id: str
    scope: str
    service_id: str
    label: str
    created_at_ms: int
    expires_at_ms: int
    revoked_at_ms: int
    prefix: str
    scopes: _containers.RepeatedScalarFieldContainer[str]
    last_four: str
    def __init__(self, id: _Optional[str] = ..., scope: _Optional[str] = ..., service_id: _Optional[str] = ..., label: _Optional[str] = ..., created_at_ms: _Optional[int] = ..., expires_at_ms: _Optional[int] = ..., revoked_at_ms: _Optional[int] = ..., prefix: _Optional[str] = ..., scopes: _Optional[_Iterable[str]] = ..., last_four: _Optional[str] = ...) -> None: ...

class CreateTokenRequest(_message.Message):
    __slots__ = ("account_id", "scope", "service_ref", "label", "expires_in_seconds", "by_operator")
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    SERVICE_REF_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_IN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    BY_OPERATOR_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    scope: str
    service_ref: str
    label: str
    expires_in_seconds: int
    by_operator: bool
    def __init__(self, account_id: _Optional[str] = ..., scope: _Optional[str] = ..., service_ref: _Optional[str] = ..., label: _Optional[str] = ..., expires_in_seconds: _Optional[int] = ..., by_operator: _Optional[bool] = ...) -> None: ...

class CreateTokenReply(_message.Message):
    __slots__ = ("token", "secret")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    token: Token
    secret: str
    def __init__(self, token: _Optional[_Union[Token, _Mapping]] = ..., secret: _Optional[str] = ...) -> None: ...

class ListTokensRequest(_message.Message):
    __slots__ = ("account_id",)
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    def __init__(self, account_id: _Optional[str] = ...) -> None: ...

class ListTokensReply(_message.Message):
    __slots__ = ("tokens",)
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedCompositeFieldContainer[Token]
    def __init__(self, tokens: _Optional[_Iterable[_Union[Token, _Mapping]]] = ...) -> None: ...

class RevokeTokenRequest(_message.Message):
    __slots__ = ("account_id", "token_id")
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    token_id: str
    def __init__(self, account_id: _Optional[str] = ..., token_id: _Optional[str] = ...) -> None: ...

class CreateServiceRequest(_message.Message):
    __slots__ = ("account_id", "name", "kind", "capabilities")
    class CapabilitiesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bool
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bool] = ...) -> None: ...
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    name: str
    kind: str
    capabilities: _containers.ScalarMap[str, bool]
    def __init__(self, account_id: _Optional[str] = ..., name: _Optional[str] = ..., kind: _Optional[str] = ..., capabilities: _Optional[_Mapping[str, bool]] = ...) -> None: ...

class ListServicesRequest(_message.Message):
    __slots__ = ("account_id", "deleted", "cursor")
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    deleted: bool
    cursor: str
    def __init__(self, account_id: _Optional[str] = ..., deleted: _Optional[bool] = ..., cursor: _Optional[str] = ...) -> None: ...

class ListServicesReply(_message.Message):
    __slots__ = ("services", "next_cursor")
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    NEXT_CURSOR_FIELD_NUMBER: _ClassVar[int]
    services: _containers.RepeatedCompositeFieldContainer[Service]
    next_cursor: str
    def __init__(self, services: _Optional[_Iterable[_Union[Service, _Mapping]]] = ..., next_cursor: _Optional[str] = ...) -> None: ...

class DeleteServiceRequest(_message.Message):
    __slots__ = ("account_id", "ref")
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    REF_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    ref: str
    def __init__(self, account_id: _Optional[str] = ..., ref: _Optional[str] = ...) -> None: ...

class RestoreServiceRequest(_message.Message):
    __slots__ = ("account_id", "service_id")
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    SERVICE_ID_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    service_id: str
    def __init__(self, account_id: _Optional[str] = ..., service_id: _Optional[str] = ...) -> None: ...
