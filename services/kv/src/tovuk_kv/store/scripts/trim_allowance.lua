#!lua flags=allow-oom
-- ARGV: account|meter. As level.lua answers, after the trim.
local level = T .. 'level:' .. ARGV[1]
local numbers = redis.call('HMGET', level, 'bytes', 'held', 'held_until', 'allowance')
local keep = numbers[1] or 0
if tonumber(numbers[2] or 0) > 0 and tonumber(numbers[3]) > time_ms() then
  keep = math.min(tonumber(keep) + numbers[2], tonumber(numbers[4] or 0))
end
redis.call('HSET', level, 'allowance', keep)
return { redis.call('HMGET', level, 'bytes', 'allowance', 'version', 'seq'), redis.call('HGETALL', T .. 'lines:' .. ARGV[1]) }
