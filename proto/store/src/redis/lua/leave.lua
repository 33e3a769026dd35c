-- Ends an incarnation's lease now, if the store knows it in this run.
-- KEYS: 1 meta, 2 lease (hash), 3 last report, 4 reports (stream)
-- ARGV: 1 run, 2 incarnation, 3 node
-- Returns: {1} done, or nothing to do, {-1} another run
if redis.call('HGET', KEYS[1], 'run') ~= ARGV[1] then
  return { -1 }
end
local lease = redis.call('HMGET', KEYS[2], 'run', ARGV[2], 'last')
if lease[1] ~= ARGV[1] or not lease[2] then
  return { 1 }
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[2], ARGV[2], string.format('%.0f', -math.min(math.abs(lease[2]), now)))
if lease[3] == ARGV[2] then
  redis.call('DEL', KEYS[3])
end
redis.call('XADD', KEYS[4], 'MAXLEN', '~', '500', '*', 'left', ARGV[3], 'incarnation', ARGV[2])
return { 1 }
