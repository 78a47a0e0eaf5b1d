#!lua flags=no-writes
-- ARGV: namespace, first and last bound, count, now in seconds. Where to go on ('' at the end), then five of each key;
-- 0 for a gone namespace. Looks at a bounded number of keys, so that many expired ones cannot hold up the server.
local namespace, from, to, count, now = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
if redis.call('HEXISTS', T .. 'open', namespace) == 0 then
  return 0
end
local answers, looked, found = { from }, 0, 0
while found < count and looked < 4 * count + 64 do
  local keys = redis.call('ZRANGEBYLEX', T .. 'index:' .. namespace, from, to, 'LIMIT', 0, count)
  for _, key in ipairs(keys) do
    if found == count then
      break
    end
    from = '(' .. key
    local record = redis.call(
      'HMGET', T .. 'record:' .. namespace .. ':' .. key, 'metadata', 'expires_at', 'version', 'value_bytes'
    )
    local expires_at = tonumber(record[2] or 0)
    if record[3] and (expires_at == 0 or expires_at > now) then
      found = found + 1
      answers[#answers + 1] = key
      for index = 1, 4 do
        answers[#answers + 1] = record[index]
      end
    end
  end
  looked = looked + #keys
  if #keys < count and found < count then
    from = ''
    break
  end
end
answers[1] = from
return answers
