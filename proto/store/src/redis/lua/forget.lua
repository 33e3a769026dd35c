-- Deletes a room's record of an earlier run: it is void (rule 2), and nobody else will.
-- KEYS: 1 meta, 2 room
-- ARGV: none
-- Returns: nothing
local run = redis.call('HGET', KEYS[1], 'run')
local current = redis.call('GET', KEYS[2])
if run and current and string.sub(current, 1, #run) ~= run then
  redis.call('DEL', KEYS[2])
end
