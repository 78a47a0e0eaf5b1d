#!lua flags=allow-oom
-- ARGV: service. Ids and descriptions of the namespaces it still has, in turn.
redis.call('SADD', T .. 'tombstones', ARGV[1])
return redis.call('HGETALL', T .. 'namespaces:' .. ARGV[1])
