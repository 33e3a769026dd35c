-- Names the bucket's run: another server process, or no data, is a new run (rule 1).
-- The server's own run id is read here, so that no stored copy of it and no proxy between can tell another one.
-- The epochs that it gave stay known as a lower bound (rule 2); what else it wrote is void by its name.
-- KEYS: 1 meta, 2 claims (stream)
-- ARGV: 1 a name for a new run
-- Returns: the run
local server = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
if not server then
  return redis.error_reply('ERR INFO tells no run_id')
end
local meta = redis.call('HMGET', KEYS[1], 'server', 'run', 'given', 'known')
if meta[1] == server then
  return meta[2]
end
local known = string.format('%.0f', math.max(meta[3] or 0, meta[4] or 0))
redis.call('HSET', KEYS[1], 'server', server, 'run', ARGV[1], 'known', known)
redis.call('HDEL', KEYS[1], 'given')
redis.call('XADD', KEYS[2], 'MAXLEN', '~', '10000', '*', 'run', ARGV[1])
return ARGV[1]
