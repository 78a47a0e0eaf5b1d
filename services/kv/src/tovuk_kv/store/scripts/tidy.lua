#!lua flags=allow-oom
-- ARGV: age in milliseconds after which an upload is forgotten, how many of each to take.
local now = time_ms()
for _, blob in ipairs(redis.call('ZRANGEBYSCORE', T .. 'uploads', '-inf', now - ARGV[1], 'LIMIT', 0, ARGV[2])) do
  redis.call('ZREM', T .. 'uploads', blob)
  local index = 0
  while redis.call('UNLINK', T .. 'chunk:' .. blob .. ':' .. index) == 1 do
    index = index + 1
  end
end
for _, member in ipairs(redis.call('ZRANGEBYSCORE', T .. 'garbage', '-inf', now, 'LIMIT', 0, ARGV[2])) do
  local blob, chunks = string.match(member, '^(.*):(%d+)$')
  redis.call('ZREM', T .. 'garbage', member)
  release_blob(blob, tonumber(chunks))
end
redis.call('ZREMRANGEBYSCORE', T .. 'pins', '-inf', now)
