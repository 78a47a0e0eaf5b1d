#!lua
-- ARGV: blob, index, bytes. A piece of a large value that no key refers to yet.
redis.call('ZADD', T .. 'uploads', time_ms(), ARGV[1])
redis.call('SET', T .. 'chunk:' .. ARGV[1] .. ':' .. ARGV[2], ARGV[3])
