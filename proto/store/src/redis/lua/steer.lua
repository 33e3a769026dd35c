-- Says what is wanted of a node, by compare-and-set of the plan's number. What is stored as steering is JSON; of its
-- plan the field plan tells.
-- KEYS: 1 meta, 2 steering (hash), 3 reports (stream)
-- ARGV: 1 run, 2 node, 3 the plan that the caller knows, 4 steering
-- Returns: {1, plan} written, {0, plan, steering} another plan is there, {-1} another run
if redis.call('HGET', KEYS[1], 'run') ~= ARGV[1] then
  return { -1 }
end
local stored = redis.call('HMGET', KEYS[2], 'plan', 'steering')
if stored[1] and tonumber(stored[1]) ~= tonumber(ARGV[3]) then
  return { 0, tonumber(stored[1]), stored[2] }
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local plan = math.max(now, ARGV[3] + 1)
local text = string.format('%.0f', plan)
redis.call('HSET', KEYS[2], 'plan', text, 'steering', ARGV[4])
redis.call('PEXPIRE', KEYS[2], 604800000)
redis.call('XADD', KEYS[3], 'MAXLEN', '~', '500', '*', 'steered', ARGV[2], 'plan', text, 'steering', ARGV[4])
return { 1, plan }
