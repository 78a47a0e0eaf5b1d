#!lua flags=allow-oom
-- ARGV: account|meter, bytes, milliseconds. Room beyond the level that trims leave alone until it lapses.
local level, now = T .. 'level:' .. ARGV[1], time_ms()
local held = tonumber(redis.call('HGET', level, 'held') or 0)
if tonumber(redis.call('HGET', level, 'held_until') or 0) <= now then
  held = 0
end
redis.call('HSET', level, 'held', math.max(0, held + ARGV[2]), 'held_until', now + ARGV[3])
