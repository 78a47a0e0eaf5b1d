#!lua flags=allow-oom
-- ARGV: account|meter, 1 or 0.
redis.call(ARGV[2] == '1' and 'SADD' or 'SREM', T .. 'unlimited', ARGV[1])
