#!lua flags=allow-oom
-- ARGV: account, service, namespace. Closes the namespace in this partition and takes it off the level; bytes given back.
redis.call('HDEL', T .. 'open', ARGV[3])
local line, lines = ARGV[2] .. '|' .. ARGV[3], T .. 'lines:' .. ARGV[1] .. '|kv_storage_bytes'
local bytes = tonumber(redis.call('HGET', lines, line) or 0)
if bytes ~= 0 then
  move_level(ARGV[1], ARGV[2], ARGV[3], -bytes)
end
redis.call('HDEL', lines, line)
return bytes
