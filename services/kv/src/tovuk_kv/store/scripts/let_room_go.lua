#!lua flags=allow-oom
-- ARGV: account|meter, bytes. Room that was held is free again, unless it has lapsed.
local level = T .. 'level:' .. ARGV[1]
local held = tonumber(redis.call('HGET', level, 'held') or 0)
redis.call('HSET', level, 'held', math.max(0, held - ARGV[2]))
