-- Prepended to every script. KEYS[1] is the partition's tag, before every key of the partition.
local T = KEYS[1] .. ':'

local function time_ms()
  local now = redis.call('TIME')
  return now[1] * 1000 + math.floor(now[2] / 1000)
end

-- Adds delta to the account's level, the namespace's line of it, and the level's sequence.
local function move_level(account, service, namespace, delta)
  local level = account .. '|kv_storage_bytes'
  redis.call('HINCRBY', T .. 'level:' .. level, 'bytes', delta)
  redis.call('HINCRBY', T .. 'level:' .. level, 'seq', 1)
  redis.call('HINCRBY', T .. 'lines:' .. level, service .. '|' .. namespace, delta)
  redis.call('SADD', T .. 'levels', level)
end

local function unlink_chunks(blob, chunks)
  for index = 0, chunks - 1 do
    redis.call('UNLINK', T .. 'chunk:' .. blob .. ':' .. index)
  end
end

-- A large value that no key refers to any more: gone at once, or when the last reader's pin ends.
local function release_blob(blob, chunks)
  local pinned = redis.call('ZSCORE', T .. 'pins', blob)
  if pinned and tonumber(pinned) > time_ms() then
    redis.call('ZADD', T .. 'garbage', pinned, blob .. ':' .. chunks)
  else
    unlink_chunks(blob, chunks)
  end
end

-- Removes a key's record with all that belongs to it but the level.
local function remove_record(namespace, key, expires_at, blob, chunks)
  redis.call('UNLINK', T .. 'record:' .. namespace .. ':' .. key)
  redis.call('ZREM', T .. 'index:' .. namespace, key)
  if expires_at > 0 then
    redis.call('ZREM', T .. 'expiry', namespace .. ':' .. key)
  end
  if blob ~= '' then
    release_blob(blob, chunks)
  end
end
