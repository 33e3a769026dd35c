-- Renews an incarnation's lease if it is not over, and publishes the report in the same step (rules 6 and 8). Of the
-- stored plan and the report's the higher one is kept; a stored one that the node does not know goes with the report.
-- KEYS: 1 meta, 2 lease (hash), 3 last report, 4 reports (stream), 5 steering (hash)
-- ARGV: 1 run, 2 incarnation, 3 lease in ms, 4 report, 5 how long the last report is kept, in ms, 6 its plan, 7 its steering
-- Returns: {1, now} renewed, {1, now, plan, steering} renewed, and that is news, {0} over, {-1} another run
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
local steered = redis.call('HMGET', KEYS[5], 'plan', 'steering')
local plan = tonumber(steered[1] or 0)
if plan < tonumber(ARGV[6]) then
  redis.call('HSET', KEYS[5], 'plan', ARGV[6], 'steering', ARGV[7])
end
redis.call('PEXPIRE', KEYS[5], 604800000)
if plan > tonumber(ARGV[6]) then
  redis.call('XADD', KEYS[4], 'MAXLEN', '~', '500', '*', 'report', ARGV[4], 'plan', steered[1], 'steering', steered[2])
  return { 1, now, plan, steered[2] }
end
redis.call('XADD', KEYS[4], 'MAXLEN', '~', '500', '*', 'report', ARGV[4])
return { 1, now }
