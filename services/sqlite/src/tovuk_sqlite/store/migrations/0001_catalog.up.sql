CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

-- `storage_bytes` is what the file had when it was last unmarked.
CREATE TABLE database (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    service_id TEXT NOT NULL,
    account_id TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    storage_bytes INTEGER NOT NULL,
    dropped INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX database_name ON database (service_id, name) WHERE dropped = 0;
CREATE INDEX database_dropped ON database (id) WHERE dropped = 1;

-- Databases whose file may hold usage rows, or have another size, than stands here.
CREATE TABLE mark (
    database_id TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

CREATE TABLE tombstone (
    service_id TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

CREATE TABLE epoch (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    live INTEGER NOT NULL
) STRICT;

-- Units that were counted in memory: rows read.
CREATE TABLE used (
    epoch INTEGER NOT NULL,
    lease INTEGER NOT NULL,
    service_id TEXT NOT NULL,
    resource_id TEXT NOT NULL,
    units INTEGER NOT NULL,
    PRIMARY KEY (epoch, lease, service_id, resource_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE allowance (
    account_id TEXT PRIMARY KEY,
    bytes INTEGER NOT NULL,
    version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
