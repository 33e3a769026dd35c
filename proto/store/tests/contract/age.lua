-- Moves every deadline of the store under test into the past: time passes without a clock.
-- KEYS: none named, this is for tests on one server
-- ARGV: 1 ms
-- Returns: nothing
local by = tonumber(ARGV[1])
for _, key in ipairs(redis.call('KEYS', '*:room:*')) do
  local left = redis.call('PTTL', key)
  if left >= 0 then
    redis.call('PEXPIRE', key, left - by)
  end
end
for _, key in ipairs(redis.call('KEYS', '*:steer:*')) do
  redis.call('PEXPIRE', key, redis.call('PTTL', key) - by)
end
for _, key in ipairs(redis.call('KEYS', '*:lease:*')) do
  local fields = redis.call('HGETALL', key)
  for i = 1, #fields, 2 do
    local deadline = tonumber(fields[i]) and tonumber(fields[i + 1])
    if deadline and deadline > 0 then
      redis.call('HSET', key, fields[i], string.format('%.0f', deadline - by))
    end
  end
end
for _, key in ipairs(redis.call('KEYS', '*:schedulers')) do
  local fields = redis.call('HGETALL', key)
  for i = 1, #fields, 2 do
    local deadline, entry = string.match(fields[i + 1], '^(%d+) (.*)$')
    redis.call('HSET', key, fields[i], string.format('%.0f', deadline - by) .. ' ' .. entry)
  end
end
