#!lua flags=allow-oom
-- ARGV: blob, chunks. Removes an upload, unless a key refers to it by now.
if redis.call('ZREM', T .. 'uploads', ARGV[1]) == 1 then
  unlink_chunks(ARGV[1], tonumber(ARGV[2]))
end
