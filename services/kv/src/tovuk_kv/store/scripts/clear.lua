#!lua flags=allow-oom
-- ARGV: namespace, how many. Removes some keys of a dropped namespace; how many are left.
for _, key in ipairs(redis.call('ZRANGE', T .. 'index:' .. ARGV[1], 0, ARGV[2] - 1)) do
  local record = redis.call('HMGET', T .. 'record:' .. ARGV[1] .. ':' .. key, 'expires_at', 'blob', 'chunks')
  remove_record(ARGV[1], key, tonumber(record[1]), record[2], tonumber(record[3]))
end
return redis.call('ZCARD', T .. 'index:' .. ARGV[1])
