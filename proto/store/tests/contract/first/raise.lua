-- Lifts the bucket's epoch counter to an epoch that somebody knows of (rule 20).
-- KEYS: 1 meta
-- ARGV: 1 run, 2 epoch
-- Returns: {1} done, {-1} another run
local meta = redis.call('HMGET', KEYS[1], 'run', 'known')
if meta[1] ~= ARGV[1] then
  return { -1 }
end
local epoch = tonumber(ARGV[2])
if epoch < 4503599627370496 and epoch > tonumber(meta[2] or 0) then
  redis.call('HSET', KEYS[1], 'known', ARGV[2])
end
return { 1 }
