#!lua flags=allow-oom
-- ARGV: account|meter, milliseconds, the unlimited allowance, namespace, then (key, size) of each write in order. How far the level would rise at
-- the highest point on the way, the level, its allowance. Trims leave that room alone until it lapses.
local level, namespace, known = T .. 'level:' .. ARGV[1], ARGV[4], {}
local grown, highest = 0, 0
for at = 5, #ARGV, 2 do
  local key, size = ARGV[at], tonumber(ARGV[at + 1])
  local old = known[key] or tonumber(redis.call('HGET', T .. 'record:' .. namespace .. ':' .. key, 'stored_bytes') or 0)
  grown = grown + size - old
  known[key] = size
  highest = math.max(highest, grown)
end
local numbers = redis.call('HMGET', level, 'bytes', 'allowance', 'held', 'held_until')
if highest > 0 and numbers[2] ~= ARGV[3] then
  local now = time_ms()
  local held = tonumber(numbers[4] or 0) > now and tonumber(numbers[3]) or 0
  redis.call('HSET', level, 'held', held + highest, 'held_until', now + ARGV[2])
end
return { highest, numbers[1] or '0', numbers[2] or '0' }
