-- Renews an incarnation's lease if it is not over, and publishes the report in the same step (rules 6 and 8).
-- KEYS: 1 meta, 2 lease (hash), 3 last report, 4 reports (stream)
-- ARGV: 1 run, 2 incarnation, 3 lease in ms, 4 report, 5 how long the last report is kept, in ms
-- Returns: {1, now} renewed, {0} over, {-1} another run
if redis.call('HGET', KEYS[1], 'run') ~= ARGV[1] then
  return { -1 }
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = redis.call('HMGET', KEYS[2], 'run', ARGV[2])
local deadline = tonumber(lease[2] or 0)
if lease[1] ~= ARGV[1] or deadline <= now then
  if lease[1] == ARGV[1] and deadline > 0 then
    redis.call('HSET', KEYS[2], ARGV[2], string.format('%.0f', -deadline))
  end
  return { 0 }
end
redis.call('HSET', KEYS[2], ARGV[2], string.format('%.0f', math.max(deadline, now + ARGV[3])))
redis.call('PEXPIRE', KEYS[2], 604800000)
redis.call('SET', KEYS[3], ARGV[4], 'PX', ARGV[5])
redis.call('XADD', KEYS[4], 'MAXLEN', '~', '500', '*', 'report', ARGV[4])
return { 1, now }
