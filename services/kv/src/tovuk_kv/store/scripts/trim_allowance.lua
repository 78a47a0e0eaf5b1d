#!lua flags=allow-oom
-- ARGV: account|meter. As level.lua answers, after the trim.
local level = T .. 'level:' .. ARGV[1]
redis.call('HSET', level, 'allowance', redis.call('HGET', level, 'bytes') or 0)
return { redis.call('HMGET', level, 'bytes', 'allowance', 'version', 'seq'), redis.call('HGETALL', T .. 'lines:' .. ARGV[1]) }
