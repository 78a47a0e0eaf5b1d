#!lua flags=allow-oom
-- ARGV: account|meter, version, allowance.
local level = T .. 'level:' .. ARGV[1]
if tonumber(ARGV[2]) > tonumber(redis.call('HGET', level, 'version') or 0) then
  redis.call('HSET', level, 'version', ARGV[2], 'allowance', ARGV[3])
  redis.call('SADD', T .. 'levels', ARGV[1])
end
