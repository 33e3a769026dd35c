-- Starts a granted claim's time anew, if it is exactly the given one.
-- KEYS: 1 meta, 2 room, 3 claims (stream)
-- ARGV: 1 run, 2 the granted record ('-' if an open one was given), 3 the same record, opened, 4 ttl in ms
-- Returns: {1} prolonged or open, {0, record} another is there, {-1} another run
if redis.call('HGET', KEYS[1], 'run') ~= ARGV[1] then
  return { -1 }
end
local current = redis.call('GET', KEYS[2]) or ''
if current == ARGV[3] then
  return { 1 }
end
if current ~= ARGV[2] then
  return { 0, current }
end
redis.call('PEXPIRE', KEYS[2], ARGV[4])
redis.call('XADD', KEYS[3], 'MAXLEN', '~', '10000', '*', KEYS[2], current .. ' ' .. ARGV[4])
return { 1 }
