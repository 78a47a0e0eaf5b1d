#!lua flags=no-writes
-- ARGV: namespace, first and last bound, count, now in seconds. Where to go on ('' at the end), then five of each key;
-- 0 for a gone namespace. Looks at a bounded number of keys, so that many expired ones cannot hold up the server.
local namespace, from, to, count, now = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local prefix = T .. 'record:' .. namespace .. ':'
if redis.call('HEXISTS', T .. 'open', namespace) == 0 then
  return 0
end
local answers, looked, found, last = { '' }, 0, 0, nil
while found < count and looked < 4 * count + 64 do
  local keys = redis.call('ZRANGEBYLEX', T .. 'index:' .. namespace, from, to, 'LIMIT', 0, count)
  for _, key in ipairs(keys) do
    if found == count then
      break
    end
    last = key
    local record = redis.call('HMGET', prefix .. key, 'metadata', 'expires_at', 'version', 'value_bytes')
    local expires_at = tonumber(record[2] or 0)
    if record[3] and (expires_at == 0 or expires_at > now) then
      local at = 5 * found + 2
      answers[at], answers[at + 1], answers[at + 2], answers[at + 3], answers[at + 4] = key, unpack(record)
      found = found + 1
    end
  end
  looked = looked + #keys
  if #keys < count and found < count then
    return answers
  end
  from = '(' .. last
end
answers[1] = from
return answers
