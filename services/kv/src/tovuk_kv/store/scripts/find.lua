#!lua flags=no-writes
-- ARGV: service, id or name. The id and the description of the namespace, or false.
local namespaces = T .. 'namespaces:' .. ARGV[1]
local id = ARGV[2]
local description = redis.call('HGET', namespaces, id)
if not description then
  id = redis.call('HGET', T .. 'names:' .. ARGV[1], id)
  description = id and redis.call('HGET', namespaces, id)
end
return description and { id, description }
