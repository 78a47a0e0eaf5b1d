CREATE TABLE accounts (
    id TEXT NOT NULL PRIMARY KEY,
    handle TEXT NOT NULL UNIQUE,
    display_name TEXT NOT NULL,
    plan TEXT NOT NULL,
    plan_revision BIGINT NOT NULL,
    activity_seq BIGINT NOT NULL,
    created_at_ms BIGINT NOT NULL
);

CREATE TABLE plan_outbox (
    account_id TEXT NOT NULL PRIMARY KEY,
    plan TEXT NOT NULL,
    revision BIGINT NOT NULL
);

CREATE TABLE services (
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    capabilities TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    deleted_at_ms BIGINT NOT NULL,
    purge_at_ms BIGINT NOT NULL
);

CREATE UNIQUE INDEX services_living_name ON services (account_id, name) WHERE deleted_at_ms = 0;

CREATE INDEX services_by_account ON services (account_id, created_at_ms, id);

CREATE INDEX services_to_purge ON services (purge_at_ms) WHERE deleted_at_ms <> 0;

CREATE TABLE tokens (
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL,
    service_id TEXT NOT NULL,
    sha256 TEXT NOT NULL UNIQUE,
    scopes TEXT NOT NULL,
    label TEXT NOT NULL,
    prefix TEXT NOT NULL,
    last_four TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    expires_at_ms BIGINT NOT NULL,
    revoked_at_ms BIGINT NOT NULL,
    bootstrap BIGINT NOT NULL
);

CREATE INDEX tokens_by_account ON tokens (account_id, created_at_ms);

CREATE INDEX tokens_by_service ON tokens (service_id) WHERE service_id <> '';

CREATE INDEX tokens_ended ON tokens (revoked_at_ms, expires_at_ms) WHERE revoked_at_ms <> 0 OR expires_at_ms <> 0;

CREATE TABLE resources (
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL,
    service_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    suffix TEXT NOT NULL,
    reserved_at_ms BIGINT NOT NULL,
    confirmed_at_ms BIGINT NOT NULL
);

CREATE UNIQUE INDEX resources_suffix ON resources (service_id, kind, suffix);

CREATE INDEX resources_by_account ON resources (account_id, kind);

CREATE INDEX resources_unsettled ON resources (kind, reserved_at_ms) WHERE confirmed_at_ms = 0;

CREATE TABLE tombstones (
    owner TEXT NOT NULL,
    service_id TEXT NOT NULL,
    purged_at_ms BIGINT NOT NULL,
    PRIMARY KEY (owner, service_id)
);

CREATE TABLE activity (
    account_id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    service_id TEXT NOT NULL,
    details_json TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    PRIMARY KEY (account_id, seq)
);
