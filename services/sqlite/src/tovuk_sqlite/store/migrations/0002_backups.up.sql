-- A copy of a database as of one moment, taken from one of its generations.
CREATE TABLE backup (
    id TEXT PRIMARY KEY,
    database_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX backup_database ON backup (database_id, created_at_ms);
CREATE INDEX backup_expiry ON backup (expires_at_ms);
CREATE INDEX backup_creating ON backup (id) WHERE status = 'creating';

-- A restore of a backup, or of the moment `at_ms`, into the generation it makes.
CREATE TABLE restore (
    id TEXT PRIMARY KEY,
    database_id TEXT NOT NULL,
    plan TEXT NOT NULL,
    backup_id TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    safety_id TEXT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    ended_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    generation INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX restore_database ON restore (database_id, created_at_ms);
CREATE INDEX restore_expiry ON restore (expires_at_ms);
CREATE INDEX restore_creating ON restore (id) WHERE status = 'creating';
