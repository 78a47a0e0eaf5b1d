#!lua flags=allow-oom
-- ARGV: service, id, name. Takes the namespace out of its service and remembers that its keys are to be cleared.
local description = redis.call('HGET', T .. 'namespaces:' .. ARGV[1], ARGV[2])
if description then
  redis.call('HSET', T .. 'dropped', ARGV[2], description)
  redis.call('HDEL', T .. 'namespaces:' .. ARGV[1], ARGV[2])
  redis.call('HDEL', T .. 'names:' .. ARGV[1], ARGV[3])
end
