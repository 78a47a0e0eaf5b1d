#!lua flags=no-writes
-- ARGV: account|meter. The level's four numbers, and its lines in turn.
return {
  redis.call('HMGET', T .. 'level:' .. ARGV[1], 'bytes', 'allowance', 'version', 'seq'),
  redis.call('HGETALL', T .. 'lines:' .. ARGV[1])
}
