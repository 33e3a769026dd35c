-- Takes a node's lease under a never-used incarnation; it ends no older one (rules 6 and 8).
-- The lease hash has run, process and last (incarnation), and for each incarnation its deadline, negative once over.
-- KEYS: 1 meta, 2 lease (hash)
-- ARGV: 1 run, 2 process, 3 the last incarnation that it had, 4 lease in ms
-- Returns: {1, incarnation, now} taken, {0, until} held by another process, {-1} another run
if redis.call('HGET', KEYS[1], 'run') ~= ARGV[1] then
  return { -1 }
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local kept, names, over, busy = {}, {}, {}, 0
local fields = redis.call('HGETALL', KEYS[2])
for i = 1, #fields, 2 do
  kept[fields[i]] = fields[i + 1]
end
for name, value in pairs(kept) do
  local deadline = tonumber(name) and tonumber(value)
  if deadline and kept.run ~= ARGV[1] then
    redis.call('HDEL', KEYS[2], name)
  elseif deadline then
    if deadline > 0 and deadline <= now then
      deadline = -deadline
      redis.call('HSET', KEYS[2], name, string.format('%.0f', deadline))
    end
    names[#names + 1] = name
    if deadline < 0 then
      over[#over + 1] = name
    end
    busy = math.max(busy, deadline)
  end
end
local surplus = #names - 7
if busy > 0 and (kept.process ~= ARGV[2] or surplus > #over) then
  return { 0, busy }
end
table.sort(over, function(a, b) return tonumber(a) < tonumber(b) end)
for i = 1, surplus do
  redis.call('HDEL', KEYS[2], over[i])
end
local incarnation = math.max(now, ARGV[3] + 1, (kept.last or 0) + 1)
local text = string.format('%.0f', incarnation)
local deadline = string.format('%.0f', now + ARGV[4])
redis.call('HSET', KEYS[2], 'run', ARGV[1], 'process', ARGV[2], 'last', text, text, deadline)
redis.call('PEXPIRE', KEYS[2], 604800000)
return { 1, incarnation, now }
