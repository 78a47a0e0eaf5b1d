#!lua flags=allow-oom
local epoch = redis.call('INCR', T .. 'epoch')
redis.call('SADD', T .. 'live', epoch)
return epoch
