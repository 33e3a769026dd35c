-- Hands an open room over to another node, if it is exactly the holder's, under a new epoch (rules 20 and 23).
-- KEYS: 1 meta, 2 room, 3 claims (stream)
-- ARGV: 1 run, 2 the open record, 3 its epoch, 4 the end of the new record (' g node incarnation'), 5 the same, opened,
--       6 ttl in ms, 7 what is expected of it: 'participants hint'; the entry ends with 1, for a room that was handed over
-- Returns: {1, epoch} the new node's, {0, record} another is there, {-1} another run
local meta = redis.call('HMGET', KEYS[1], 'run', 'given', 'known')
local run = ARGV[1]
if meta[1] ~= run then
  return { -1 }
end
local current = redis.call('GET', KEYS[2]) or ''
if current ~= ARGV[2] then
  -- It may have been done, and the answer lost.
  local there = tonumber(string.match(current, '^%S+ (%d+)') or -1)
  local begins = run .. ' ' .. string.format('%.0f', there)
  local is_there = current == begins .. ARGV[4] or current == begins .. ARGV[5]
  return is_there and there > tonumber(ARGV[3]) and { 1, there } or { 0, current }
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local epoch = math.max((meta[2] or 0) + 1, (meta[3] or 0) + 1, now)
local text = string.format('%.0f', epoch)
local record = run .. ' ' .. text .. ARGV[4]
-- No grace need have passed: it closes nothing (rule 19).
redis.call('HSET', KEYS[1], meta[2] and 'given' or 'known', text)
redis.call('SET', KEYS[2], record, 'PX', ARGV[6])
redis.call('XADD', KEYS[3], 'MAXLEN', '~', '10000', '*', KEYS[2], record .. ' ' .. ARGV[6] .. ' ' .. ARGV[7] .. ' 1')
return { 1, epoch }
