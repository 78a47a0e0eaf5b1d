-- `renewals` rises with each renewal of the claim; `renewed_at_ms` is for people and for placing databases only.
CREATE TABLE shards (
    name TEXT NOT NULL PRIMARY KEY,
    address TEXT NOT NULL,
    store TEXT NOT NULL,
    lock_id TEXT NOT NULL,
    holder TEXT NOT NULL,
    fencing BIGINT NOT NULL,
    renewals BIGINT NOT NULL,
    lasts_ms BIGINT NOT NULL,
    renewed_at_ms BIGINT NOT NULL
);

CREATE TABLE placements (
    database_id TEXT NOT NULL PRIMARY KEY,
    shard TEXT NOT NULL,
    moving_to TEXT NOT NULL
);

CREATE INDEX placements_by_shard ON placements (shard);

CREATE INDEX placements_moving ON placements (shard) WHERE moving_to <> '';

-- Before there were shards there was one, which now has the default's name.
INSERT INTO placements (database_id, shard, moving_to)
    SELECT id, 'shard-1', '' FROM resources WHERE kind = 'sqlite_database';

UPDATE tombstones SET owner = 'sqlite/shard-1' WHERE owner = 'sqlite';
