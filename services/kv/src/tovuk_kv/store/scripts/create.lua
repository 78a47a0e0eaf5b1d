#!lua
-- ARGV: service, id, name, description. 1 created or there already, 0 the service is tombstoned, 2 the name is taken.
if redis.call('SISMEMBER', T .. 'tombstones', ARGV[1]) == 1 then
  return 0
end
local named = redis.call('HGET', T .. 'names:' .. ARGV[1], ARGV[3])
if named and named ~= ARGV[2] then
  return 2
end
redis.call('HSET', T .. 'namespaces:' .. ARGV[1], ARGV[2], ARGV[4])
redis.call('HSET', T .. 'names:' .. ARGV[1], ARGV[3], ARGV[2])
return 1
