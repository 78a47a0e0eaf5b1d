#!lua
-- ARGV: now in seconds, then 15 of each mutation. Answers (code, number) of each: 1 stored, version · 2 deleted, existed ·
-- 3 precondition · 4 needs room, bytes · 5 fenced · 6 gone · 7 its upload is lost.
local now = tonumber(ARGV[1])
local owners, live, crowded, answers = {}, {}, {}, {}

local function holds(wanted, unwanted, version)
  local quoted = version and ',' .. version .. ','
  if wanted ~= '' then
    if not version or (wanted ~= '*' and not string.find(',' .. wanted .. ',', quoted, 1, true)) then
      return false
    end
  end
  if unwanted ~= '' and version then
    return unwanted ~= '*' and not string.find(',' .. unwanted .. ',', quoted, 1, true)
  end
  return true
end

local function mutate(at)
  local kind, namespace, key, epoch, lease = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local put, blob = kind == 'p', ARGV[at + 12]
  local expires_at = tonumber(ARGV[at + 9])
  if owners[namespace] == nil then
    local owner = redis.call('HGET', T .. 'open', namespace)
    owners[namespace] = owner and { string.match(owner, '^(.-)|(.*)$') }
  end
  local owner = owners[namespace]
  if not owner then
    return 6, 0
  end
  if live[epoch] == nil then
    live[epoch] = redis.call('SISMEMBER', T .. 'live', epoch) == 1
  end
  if not live[epoch] then
    return 5, 0
  end
  local place = namespace .. ':' .. key
  if crowded[place] then
    return 4, crowded[place]
  end
  local record = T .. 'record:' .. place
  local old = redis.call('HMGET', record, 'version', 'stored_bytes', 'expires_at', 'blob', 'chunks')
  local old_expires_at = tonumber(old[3] or 0)
  local current = old[1] and (old_expires_at == 0 or old_expires_at > now) and old[1]
  if not holds(ARGV[at + 5], ARGV[at + 6], current) then
    return 3, 0
  end
  if put and blob ~= '' and not redis.call('ZSCORE', T .. 'uploads', blob) then
    return 7, 0
  end
  local kept = put and (expires_at == 0 or expires_at > now)
  local stored_bytes = kept and tonumber(ARGV[at + 11]) or 0
  local delta = stored_bytes - tonumber(old[2] or 0)
  if delta > 0 then
    local level = redis.call('HMGET', T .. 'level:' .. owner[2] .. '|kv_storage_bytes', 'bytes', 'allowance')
    local needed = tonumber(level[1] or 0) + delta
    if needed > tonumber(level[2] or 0) then
      crowded[place] = needed
      return 4, needed
    end
  end
  if delta ~= 0 then
    move_level(owner[2], owner[1], namespace, delta)
  end
  redis.call('HINCRBY', T .. 'used:' .. epoch, lease .. '|' .. owner[1] .. '|' .. namespace, 1)
  if put and blob ~= '' then
    redis.call('ZREM', T .. 'uploads', blob)
  end
  if old[1] and not kept then
    remove_record(namespace, key, old_expires_at, old[4], tonumber(old[5]))
  elseif old[1] and old[4] ~= '' then
    release_blob(old[4], tonumber(old[5]))
  end
  if not put then
    return 2, current and 1 or 0
  end
  local version = redis.call('INCR', T .. 'version')
  if kept then
    redis.call(
      'HSET', record, 'version', version, 'encoding', ARGV[at + 7], 'metadata', ARGV[at + 8], 'expires_at', expires_at,
      'value_bytes', ARGV[at + 10], 'stored_bytes', stored_bytes, 'blob', blob, 'chunks', ARGV[at + 13],
      'value', ARGV[at + 14]
    )
    if not old[1] then
      redis.call('ZADD', T .. 'index:' .. namespace, 0, key)
    end
    if expires_at > 0 then
      redis.call('ZADD', T .. 'expiry', expires_at, place)
    elseif old_expires_at > 0 then
      redis.call('ZREM', T .. 'expiry', place)
    end
  elseif blob ~= '' then
    unlink_chunks(blob, tonumber(ARGV[at + 13]))
  end
  return 1, version
end

for at = 2, #ARGV, 15 do
  local code, number = mutate(at)
  answers[#answers + 1] = code
  answers[#answers + 1] = number
end
return answers
