-- Lists the schedulers whose time is not over.
-- KEYS: 1 schedulers (hash: id -> 'until entry')
-- ARGV: none
-- Returns: {entry, ...}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local result = {}
for _, value in ipairs(redis.call('HVALS', KEYS[1])) do
  local deadline, entry = string.match(value, '^(%d+) (.*)$')
  if tonumber(deadline) > now then
    result[#result + 1] = entry
  end
end
return result
