#!lua flags=allow-oom
-- ARGV: epoch, then (field, units) of each row. 1, or 0 when the epoch is dead.
if redis.call('SISMEMBER', T .. 'live', ARGV[1]) == 0 then
  return 0
end
for at = 2, #ARGV, 2 do
  redis.call('HINCRBY', T .. 'used:' .. ARGV[1], ARGV[at], ARGV[at + 1])
end
return 1
