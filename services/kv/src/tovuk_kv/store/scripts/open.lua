#!lua flags=allow-oom
-- ARGV: namespace, key, now in seconds, pin in milliseconds. The record with its blob and chunks, pinned for the reader;
-- false for an absent key, 0 for a gone namespace.
local namespace, key, now = ARGV[1], ARGV[2], tonumber(ARGV[3])
if redis.call('HEXISTS', T .. 'open', namespace) == 0 then
  return 0
end
local record = redis.call(
  'HMGET', T .. 'record:' .. namespace .. ':' .. key,
  'version', 'encoding', 'metadata', 'expires_at', 'value_bytes', 'value', 'blob', 'chunks'
)
local expires_at = tonumber(record[4] or 0)
if not record[1] or (expires_at > 0 and expires_at <= now) then
  return false
end
if record[7] ~= '' then
  redis.call('ZADD', T .. 'pins', time_ms() + ARGV[4], record[7])
end
return record
