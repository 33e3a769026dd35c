-- Gives a room up, if it is this node's in this generation (rule 10).
-- KEYS: 1 meta, 2 room, 3 claims (stream)
-- ARGV: 1 run, 2 the record, granted, 3 the record, opened, 4 its epoch
-- Returns: {1} nothing of it remains, {-1} another run
if redis.call('HGET', KEYS[1], 'run') ~= ARGV[1] then
  return { -1 }
end
local current = redis.call('GET', KEYS[2])
if current == ARGV[2] or current == ARGV[3] then
  redis.call('DEL', KEYS[2])
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', '10000', '*', KEYS[2], ARGV[4])
end
return { 1 }
