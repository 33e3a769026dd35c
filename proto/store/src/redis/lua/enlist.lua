-- Puts a scheduler on the list for a time, and takes those off whose time is over.
-- KEYS: 1 schedulers (hash: id -> 'until entry')
-- ARGV: 1 id, 2 entry, 3 ttl in ms, 4 the most entries
-- Returns: nothing
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local count = 0
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  if tonumber(string.match(fields[i + 1], '^%d+')) <= now then
    redis.call('HDEL', KEYS[1], fields[i])
  elseif fields[i] ~= ARGV[1] then
    count = count + 1
  end
end
if count < tonumber(ARGV[4]) then
  redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now + ARGV[3]) .. ' ' .. ARGV[2])
end
