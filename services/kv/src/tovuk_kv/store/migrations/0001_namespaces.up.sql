CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE namespace (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    service_id TEXT NOT NULL,
    account_id TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    dropped INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX namespace_name ON namespace (service_id, name) WHERE dropped = 0;
CREATE INDEX namespace_dropped ON namespace (number) WHERE dropped = 1;

CREATE TABLE tombstone (
    service_id TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- The value comes last, so that lists need not read it. `file` names a value that lies beside.
CREATE TABLE entry (
    namespace INTEGER NOT NULL,
    key BLOB NOT NULL,
    version INTEGER NOT NULL,
    stored_bytes INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    value_bytes INTEGER NOT NULL,
    file TEXT,
    encoding TEXT NOT NULL,
    metadata BLOB NOT NULL,
    value BLOB,
    PRIMARY KEY (namespace, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX entry_expiry ON entry (expires_at) WHERE expires_at > 0;
CREATE INDEX entry_file ON entry (file) WHERE file IS NOT NULL;

CREATE TABLE epoch (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    live INTEGER NOT NULL
) STRICT;

CREATE TABLE used (
    epoch INTEGER NOT NULL,
    lease INTEGER NOT NULL,
    service_id TEXT NOT NULL,
    resource_id TEXT NOT NULL,
    units INTEGER NOT NULL,
    PRIMARY KEY (epoch, lease, service_id, resource_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE level (
    account_id TEXT NOT NULL,
    meter TEXT NOT NULL,
    bytes INTEGER NOT NULL DEFAULT 0,
    allowance INTEGER NOT NULL DEFAULT 0,
    version INTEGER NOT NULL DEFAULT 0,
    seq INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (account_id, meter)
) STRICT, WITHOUT ROWID;

CREATE TABLE level_line (
    account_id TEXT NOT NULL,
    meter TEXT NOT NULL,
    service_id TEXT NOT NULL,
    resource_id TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (account_id, meter, service_id, resource_id)
) STRICT, WITHOUT ROWID;
