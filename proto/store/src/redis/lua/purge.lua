-- Forgets a node whose leases are all over: its last report, and what was wanted of it. Leases stay recorded (rule 6).
-- KEYS: 1 meta, 2 lease (hash), 3 last report, 4 reports (stream), 5 steering (hash)
-- ARGV: 1 run, 2 node
-- Returns: {1} done, {0, until} the node has a lease, {-1} another run
if redis.call('HGET', KEYS[1], 'run') ~= ARGV[1] then
  return { -1 }
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local busy = 0
if redis.call('HGET', KEYS[2], 'run') == ARGV[1] then
  local fields = redis.call('HGETALL', KEYS[2])
  for i = 1, #fields, 2 do
    local deadline = tonumber(fields[i]) and tonumber(fields[i + 1]) or 0
    if deadline > now then
      busy = math.max(busy, deadline)
    elseif deadline > 0 then
      redis.call('HSET', KEYS[2], fields[i], string.format('%.0f', -deadline))
    end
  end
end
if busy > 0 then
  return { 0, busy }
end
redis.call('DEL', KEYS[3])
redis.call('DEL', KEYS[5])
redis.call('XADD', KEYS[4], 'MAXLEN', '~', '500', '*', 'purged', ARGV[2])
return { 1 }
