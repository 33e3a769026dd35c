-- Names the bucket's run after a (re)connect: another server process, or no data, is a new run (rule 1).
-- The epoch counter stays as a lower bound (rule 2); what else the old run wrote is void by its name.
-- KEYS: 1 meta, 2 claims (stream)
-- ARGV: 1 the server's run id, 2 a name for a new run
-- Returns: the run
local meta = redis.call('HMGET', KEYS[1], 'server', 'run')
if meta[1] == ARGV[1] then
  return meta[2]
end
redis.call('HSET', KEYS[1], 'server', ARGV[1], 'run', ARGV[2])
redis.call('HDEL', KEYS[1], 'closed')
redis.call('XADD', KEYS[2], 'MAXLEN', '~', 10000, '*', 'run', ARGV[2])
return ARGV[2]
