"""The shapes of bodies and answers, for the OpenAPI file and for tests that hold answers against them.

Answers are built as bytes where they are hot, so these models describe; they do not serialise.
"""

# ruff: noqa: N815 the names are the wire's

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

Capabilities = Annotated[dict[str, bool], Field(description="The 17 capabilities.", examples=[{"kv": True}])]
Moment = Annotated[str, Field(description="RFC 3339, UTC.", examples=["2026-06-03T12:00:00.000Z"])]
Etag = Annotated[str, Field(description="The key's version, quotes included.", examples=['"17"'])]
Encoding = Annotated[Literal["text", "base64"], Field(description="How value is written.")]
UnixSeconds = Annotated[int, Field(ge=0, description="Unix seconds.", examples=[1780272000])]


class Shape(BaseModel):
    """Fields that are not named are allowed: answers may gain some."""

    model_config = ConfigDict(extra="allow")


class ErrorEnvelope(Shape):
    """Every error of every route."""

    code: str = Field(description="A code of the catalogue; see docs_url.", examples=["kv_key_not_found"])
    message: str
    agent_instruction: str = Field(description="The next step, for a program; constant text.")
    docs_url: str
    checkout_url: str | None = Field(default=None, description="Where a human may choose a larger plan.")
    retryable: bool
    outcome: Literal["not_done", "done", "unknown"] = Field(description="What became of the effect.")
    request_id: str


class Hinted(Shape):
    """A success whose next step is not obvious."""

    agent_instruction: str | None = None
    docs_url: str | None = None


class ServiceCounts(Shape):
    """How many resources a service has, by kind."""

    sqliteDatabases: int
    storageObjects: int
    kvNamespaces: int
    queues: int
    cronTriggers: int
    stateNamespaces: int
    serviceBindings: int
    secrets: int
    customDomains: int


class ServiceRow(Shape):
    """A service in a list."""

    name: str
    serviceId: str
    kind: Literal["rust_worker", "static_frontend", "fullstack"]
    runtimeStatus: str
    url: str
    capabilities: Capabilities
    resources: ServiceCounts
    createdAt: Moment


class DeletedServiceRow(ServiceRow):
    """A deleted service that can still be restored."""

    deletedAt: Moment
    purgeAt: Moment


class ServiceList(Shape):
    """Every service of the account."""

    services: list[ServiceRow]


class ServiceCreate(BaseModel):
    """A service without a deploy."""

    name: str = Field(examples=["my-service"], description="1 to 48 characters a-z 0-9 -.")
    kind: Literal["rust_worker", "static_frontend", "fullstack"] = "rust_worker"
    capabilities: Capabilities = Field(default={}, description="Those left out take their defaults.")


class ServiceDescription(Shape):
    """A service by itself."""

    id: str = Field(examples=["service_4f1d0c7a9b2e8d3f6a50"])
    name: str
    kind: str
    url: str
    runtime_status: str
    capabilities: Capabilities


class ServiceAnswer(Hinted):
    """A service that was made or restored."""

    service: ServiceDescription


class ServiceDeleted(Hinted):
    """A deleted service; it can be restored until purge_at."""

    deleted: Literal[True]
    service: ServiceDescription


class DatabaseItem(Shape):
    """A SQLite database."""

    id: str
    name: str
    createdAt: Moment


class NamespaceItem(Shape):
    """A KV namespace."""

    id: str = Field(examples=["kv_0a5b9c1d7e3f2a4b6c8d"])
    name: str = Field(examples=["CACHE"])
    createdAt: Moment | None


class CapItem(Shape):
    """A usage cap and its state."""

    metric: str = Field(examples=["kv_reads"])
    period: Literal["day", "month"]
    capValue: int
    hardStop: bool
    notifyAtPercent: int
    used: int | None = None
    reserved: int | None = None
    remaining: int | None = None
    resetsAt: Moment | None = Field(default=None, description="Absent for a level, which has no window.")
    notified: bool | None = None
    stopped: bool | None = None
    updatedAt: Moment | None = None


class Resources(Hinted):
    """Every resource of a service, and the account's caps."""

    sqliteDatabases: list[DatabaseItem]
    kvNamespaces: list[NamespaceItem]
    queues: list[dict[str, Any]]
    cronTriggers: list[dict[str, Any]]
    stateNamespaces: list[dict[str, Any]]
    serviceBindings: list[dict[str, Any]]
    usageCaps: list[CapItem]


class NamespaceCreated(Resources):
    """The refreshed resources and the new namespace."""

    created: NamespaceItem


class DatabaseCreated(Resources):
    """The refreshed resources and the new database."""

    created: DatabaseItem


class DatabaseCreate(BaseModel):
    """A database's name; upper case is customary."""

    name: str = Field(examples=["DB"])


class QueryStatement(BaseModel):
    """One SQL statement. Values are null, numbers, strings, booleans, `{"base64": …}` and `{"real": "inf"}`."""

    sql: str = Field(examples=["select * from users where id = ?"])
    params: list[Any] | dict[str, Any] | None = Field(default=None, description="By position, or by name.")


class Query(BaseModel):
    """One statement as `sql` and `params`, or several as `statements`: one transaction, all or nothing."""

    sql: str | None = None
    params: list[Any] | dict[str, Any] | None = None
    cursor: str | None = Field(default=None, description="From the page before, with the same sql and params.")
    statements: list[QueryStatement] | None = None


class QueryResult(Shape):
    """What one statement gave."""

    columns: list[str]
    rows: list[list[Any]]
    rowCount: int
    rowsRead: int
    rowsWritten: int
    vmSteps: int
    fullscanSteps: int
    changes: int
    lastInsertRowid: int


class QueryTotals(Shape):
    """What all statements of a batch did."""

    statements: int
    rowsRead: int
    rowsWritten: int
    vmSteps: int
    fullscanSteps: int
    changes: int


class QueryFacts(Shape):
    """What every answer to a query says of the run as a whole."""

    rowsReadExact: bool
    storageBytes: int
    durationMs: float
    nextActions: list[str]


class SingleAnswer(QueryResult, QueryFacts):
    """The answer to one statement; `cursor` leads to the next page."""

    cursor: str | None


class BatchAnswer(QueryFacts):
    """The answer to several statements."""

    results: list[QueryResult]
    totals: QueryTotals


class EstimateAnswer(Shape):
    """How a statement would run; nothing was run or counted."""

    estimate: bool
    plan: list[str]
    scans: bool
    scannedTables: list[str]
    estimatedRowsRead: int
    rowsReadExact: bool
    nextActions: list[str]


class QueryAnswer(RootModel[SingleAnswer | BatchAnswer | EstimateAnswer]):
    """The answer to `sql`, to `statements`, or to an estimate."""


class BackupItem(Shape):
    """A backup: `manual`, or `safety`, which is what a restore replaced. Size and SHA-256 stand once it is ready."""

    id: str = Field(examples=["sqlite_backup_0a5b9c1d7e3f2a4b6c8d"])
    databaseId: str
    kind: Literal["manual", "safety"]
    status: Literal["creating", "ready", "failed"]
    reason: str | None = Field(description="The error code of what made it fail.")
    createdAt: Moment
    expiresAt: Moment
    sizeBytes: int | None
    sha256: str | None


class RestoreItem(Shape):
    """A restore. `ready`: the database is what the backup, or the moment, had. `failed`: it is as it was."""

    id: str
    databaseId: str
    backupId: str | None
    timestamp: Moment | None
    safetyBackupId: str = Field(description="The backup of what it replaces.")
    status: Literal["creating", "ready", "failed"]
    reason: str | None = Field(description="The error code of what made it fail.")
    createdAt: Moment
    endedAt: Moment | None


class BackupList(Shape):
    """A database's backups and restores, the newest first."""

    backups: list[BackupItem]
    restores: list[RestoreItem]
    restorableFrom: Moment | None = Field(description="From then on the database can be put back to any moment.")


class BackupCreated(Hinted):
    """The backup on its way."""

    backup: BackupItem


class RestoreBegun(Hinted):
    """The restore on its way."""

    restore: RestoreItem


class Restore(BaseModel):
    """What a database is put back to: a backup, or a moment."""

    backupId: str | None = Field(default=None, examples=["sqlite_backup_0a5b9c1d7e3f2a4b6c8d"])
    timestamp: str | int | None = Field(
        default=None, description="RFC 3339 with its offset, or Unix milliseconds.", examples=["2026-11-21T12:00:00Z"]
    )


class NamespaceCreate(BaseModel):
    """A namespace's name; upper case is customary."""

    name: str = Field(examples=["CACHE"])


class OverviewStatus(Shape):
    """The service and its newest deploy and build."""

    service: ServiceDescription
    latest_deploy: dict[str, Any] | None
    latest_build_job: dict[str, Any] | None


class Meters(Shape):
    """Used units by meter."""

    day: dict[str, int]
    month: dict[str, int]


class AccountUsage(Shape):
    """An account's usage as the overview shows it."""

    storageObjectCount: int
    objectStorageMib: int
    meters: Meters


class Overview(Hinted):
    """Everything about a service in one answer."""

    status: OverviewStatus
    resources: Resources
    env: list[Any]
    domains: list[Any]
    capabilities: Capabilities
    accountUsage: AccountUsage
    billingEstimate: dict[str, Any]
    deploys: list[Any]
    builds: list[Any]
    logs: list[Any]
    limits: dict[str, Any]
    pricing: dict[str, Any] | None
    next_actions: list[str]


class AccountItem(Shape):
    """An account."""

    id: str
    handle: str
    displayName: str
    plan: str
    createdAt: Moment


class AccountAnswer(Hinted):
    """The caller's account."""

    account: AccountItem


class AccountUpdate(BaseModel):
    """The account's public names."""

    handle: str = Field(examples=["ada"])
    displayName: str | None = Field(default=None, description="The handle, if left out.", examples=["Ada"])


class ActivityItem(Shape):
    """One thing that happened in the account."""

    id: str
    kind: str = Field(examples=["service_created"])
    serviceId: str | None
    details: dict[str, Any]
    at: Moment


class ActivityPage(Shape):
    """Activity, newest first."""

    activity: list[ActivityItem]
    has_more: bool
    next_cursor: str | None


class TokenItem(Shape):
    """A token without its secret."""

    id: str
    scope: Literal["user", "read", "runtime", "operator"]
    serviceId: str | None
    label: str
    scopes: list[str]
    prefix: str = Field(description="Its first characters; empty for a token that an operator chose.")
    lastFour: str
    createdAt: Moment
    expiresAt: Moment | None
    revokedAt: Moment | None


class TokenCreate(BaseModel):
    """A new token."""

    scope: Literal["user", "read", "runtime", "operator"] = "user"
    service: str | None = Field(default=None, description="Id or name; required for a runtime token.")
    label: str | None = None
    expiresInSeconds: int | None = Field(default=None, ge=1, description="Left out: never.")


class TokenCreated(Hinted):
    """A new token. Its secret is shown this once."""

    token: TokenItem
    secret: str


class TokenList(Shape):
    """The account's tokens."""

    tokens: list[TokenItem]


class TokenRevoked(Shape):
    """The token is of no use any more."""

    token: TokenItem
    revoked: Literal[True]


class OperatorAccountCreate(BaseModel):
    """A new account."""

    handle: str = Field(examples=["ada"])
    displayName: str | None = None
    plan: str = Field(default="free", examples=["free"])


class OperatorAccountUpdate(BaseModel):
    """An account's plan."""

    plan: str = Field(examples=["pro"])


class OperatorAccountCreated(Hinted):
    """A new account and its first token, shown this once."""

    account: AccountItem
    token: str


class OperatorAccountList(Shape):
    """All accounts, page by page."""

    accounts: list[AccountItem]
    has_more: bool
    next_cursor: str | None


class ShardItem(Shape):
    """A shard: one sqlite process, and how many databases lie there."""

    name: str
    live: bool
    fencing: int
    databases: int


class OperatorShardList(Shape):
    """Every shard."""

    shards: list[ShardItem]


class OperatorMove(BaseModel):
    """Where a database is to lie."""

    shard: str = Field(examples=["shard-2"])


class MoveItem(Shape):
    """A move as it was noted."""

    databaseId: str
    from_: str = Field(alias="from")
    to: str


class OperatorMoveAnswer(Hinted):
    """A move that is under way now."""

    move: MoveItem


class CapSet(BaseModel):
    """A cap on one meter."""

    period: Literal["day", "month"]
    capValue: int = Field(ge=0, le=2**53 - 1, examples=[100000])
    hardStop: bool = True
    notifyAtPercent: int = Field(default=80, ge=1, le=100)


class CapAnswer(Hinted):
    """The cap, in force."""

    cap: CapItem


class CapDeleted(Hinted):
    """The cap is gone."""

    deleted: Literal[True]
    metric: str
    period: Literal["day", "month"]


class UsageFigures(AccountUsage):
    """What the account uses."""

    serviceCount: int


class Usage(Hinted):
    """Usage, limits, caps, the estimate and the catalogue."""

    plan: str
    usage: UsageFigures
    limits: dict[str, Any]
    caps: list[CapItem]
    windows: list[dict[str, Any]]
    billingEstimate: dict[str, Any]
    products: list[dict[str, Any]]
    plans: list[dict[str, Any]]
    asOf: Moment
    delayed: bool


class BreakdownItem(Shape):
    """One resource's units on one meter."""

    metric: str
    serviceId: str
    resourceId: str
    day: int
    month: int


class Breakdown(Shape):
    """Usage by service and resource."""

    breakdown: list[BreakdownItem]


class Catalogue(Shape):
    """Products and plans."""

    plans: list[dict[str, Any]]
    products: list[dict[str, Any]]
    docs_url: str
    openapi_url: str


class ValuePut(BaseModel):
    """A value, written whole: metadata and expiry that are left out are removed."""

    value: str = Field(examples=['{"name":"Ada"}'], description="At most 25 MiB when decoded.")
    encoding: Encoding = "text"
    metadata: dict[str, Any] | None = Field(default=None, description="At most 1,024 bytes of compact JSON.")
    expiration: UnixSeconds | None = None
    expirationTtlSeconds: int | None = Field(default=None, ge=30, examples=[3600])


class ValueAnswer(Shape):
    """A value."""

    key: str
    value: str
    encoding: Encoding
    metadata: dict[str, Any] | None
    expiration: UnixSeconds | None
    etag: Etag


class ValueStored(Shape):
    """The value is durable."""

    key: str
    etag: Etag
    expiration: UnixSeconds | None
    sizeBytes: int


class ValueDeleted(Shape):
    """Whether the key was there."""

    key: str
    deleted: bool


class KeyItem(Shape):
    """One key of a page."""

    key: str
    metadata: dict[str, Any] | None
    expiration: UnixSeconds | None
    etag: Etag
    sizeBytes: int


class KeyPage(Shape):
    """Keys in byte order."""

    keys: list[KeyItem]
    cursor: str | None
    hasMore: bool


class BulkKeys(BaseModel):
    """Keys to read or delete."""

    keys: list[str] = Field(examples=[["feature:search", "user:1"]])


class BulkEntry(ValuePut):
    """One key and its value."""

    key: str = Field(examples=["feature:search"])


class BulkPut(BaseModel):
    """Keys to write; the last of several with the same key wins."""

    entries: list[BulkEntry]


class BulkWritten(Shape):
    """How many entries were written."""

    written: int


class BulkRead(Shape):
    """In the order of the request; null where a key is absent."""

    entries: list[ValueAnswer | None]


class BulkDeleted(Shape):
    """How many keys existed and are gone, of how many that were named."""

    deleted: int
    requested: int


class Alive(Shape):
    """The gateway answers."""

    ok: Literal[True]


class Status(Shape):
    """Which services can be reached."""

    status: Literal["ok", "degraded"]
    services: dict[str, Literal["ok", "unreachable"]]
