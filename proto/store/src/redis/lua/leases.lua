-- Lists a node's leases of this run. One that is seen to be over stays so, even if the clock is set back (rule 12).
-- KEYS: 1 meta, 2 lease (hash)
-- ARGV: none
-- Returns: {incarnation, deadline, ...} in any order, a deadline negative where the lease is over
local result = {}
local fields = redis.call('HGETALL', KEYS[2])
local kept = {}
for i = 1, #fields, 2 do
  kept[fields[i]] = fields[i + 1]
end
if not kept.run or kept.run ~= redis.call('HGET', KEYS[1], 'run') then
  return result
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for name, value in pairs(kept) do
  local deadline = tonumber(name) and tonumber(value)
  if deadline then
    if deadline > 0 and deadline <= now then
      deadline = -deadline
      redis.call('HSET', KEYS[2], name, string.format('%.0f', deadline))
    end
    result[#result + 1] = tonumber(name)
    result[#result + 1] = deadline
  end
end
return result
