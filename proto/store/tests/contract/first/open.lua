-- Opens a granted claim for its first participant (rule 4).
-- KEYS: 1 meta, 2 room, 3 claims (stream)
-- ARGV: 1 run, 2 the granted record, 3 the same record, opened
-- Returns: {1} open, {0, record} another is there, {-1} another run
if redis.call('HGET', KEYS[1], 'run') ~= ARGV[1] then
  return { -1 }
end
local current = redis.call('GET', KEYS[2]) or ''
if current == ARGV[3] then
  return { 1 }
end
if current ~= ARGV[2] then
  return { 0, current }
end
redis.call('SET', KEYS[2], ARGV[3])
redis.call('XADD', KEYS[3], 'MAXLEN', '~', '10000', '*', KEYS[2], ARGV[3] .. ' 0')
return { 1 }
