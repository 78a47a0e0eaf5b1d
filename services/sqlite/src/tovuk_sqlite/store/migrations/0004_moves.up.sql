-- When a generation was replaced, by a restore or by a move to another shard.
CREATE TABLE generation_end (
    database_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    ended_at_ms INTEGER NOT NULL,
    PRIMARY KEY (database_id, number)
) STRICT, WITHOUT ROWID;
INSERT INTO generation_end
    SELECT database_id, generation - 1, max(ended_at_ms) FROM restore WHERE status = 'ready' GROUP BY 1, 2;

-- Of a database that moves: whether its objects move too, from one shard's archive into another's.
ALTER TABLE database ADD COLUMN with_archive INTEGER NOT NULL DEFAULT 0;
