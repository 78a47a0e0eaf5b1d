#!lua flags=no-writes
-- ARGV: now in seconds, then (namespace, key) of each lookup. A record, false for an absent key, 0 for a gone namespace.
local now = tonumber(ARGV[1])
local open, answers = {}, {}
for at = 2, #ARGV, 2 do
  local namespace, key = ARGV[at], ARGV[at + 1]
  if open[namespace] == nil then
    open[namespace] = redis.call('HEXISTS', T .. 'open', namespace) == 1
  end
  local answer = 0
  if open[namespace] then
    local record = redis.call(
      'HMGET', T .. 'record:' .. namespace .. ':' .. key,
      'version', 'encoding', 'metadata', 'expires_at', 'value_bytes', 'value', 'blob'
    )
    local expires_at = tonumber(record[4] or 0)
    answer = record[1] and (expires_at == 0 or expires_at > now) and record
  end
  answers[#answers + 1] = answer
end
return answers
