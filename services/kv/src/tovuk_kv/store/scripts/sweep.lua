#!lua flags=allow-oom
-- ARGV: now in seconds, how many. How many keys were removed, then the accounts whose level sank.
local places = redis.call('ZRANGEBYSCORE', T .. 'expiry', '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
local accounts, answers = {}, { #places }
for _, place in ipairs(places) do
  local namespace, key = string.match(place, '^(.-):(.*)$')
  local record = redis.call('HMGET', T .. 'record:' .. place, 'stored_bytes', 'expires_at', 'blob', 'chunks')
  remove_record(namespace, key, tonumber(record[2]), record[3], tonumber(record[4]))
  local owner = redis.call('HGET', T .. 'open', namespace)
  -- A dropped namespace went off the level as a whole.
  if owner then
    local service, account = string.match(owner, '^(.-)|(.*)$')
    move_level(account, service, namespace, -tonumber(record[1]))
    if not accounts[account] then
      accounts[account] = true
      answers[#answers + 1] = account
    end
  end
end
return answers
