#!lua flags=allow-oom
-- ARGV: epoch, leases.
local leases = {}
for at = 2, #ARGV do
  leases[ARGV[at]] = true
end
for _, field in ipairs(redis.call('HKEYS', T .. 'used:' .. ARGV[1])) do
  if leases[string.match(field, '^(%d+)|')] then
    redis.call('HDEL', T .. 'used:' .. ARGV[1], field)
  end
end
