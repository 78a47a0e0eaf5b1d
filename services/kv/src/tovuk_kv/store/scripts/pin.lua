#!lua flags=allow-oom
-- ARGV: pin in milliseconds, blobs that are still being read.
local until_ms = time_ms() + ARGV[1]
for index = 2, #ARGV do
  redis.call('ZADD', T .. 'pins', until_ms, ARGV[index])
end
