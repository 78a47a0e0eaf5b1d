INSERT INTO tombstones (owner, service_id, purged_at_ms)
    SELECT 'sqlite', service_id, MIN(purged_at_ms) FROM tombstones WHERE substr(owner, 1, 7) = 'sqlite/' GROUP BY service_id;

DELETE FROM tombstones WHERE substr(owner, 1, 7) = 'sqlite/';

DROP TABLE placements;

DROP TABLE shards;
