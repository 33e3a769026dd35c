-- Grants a room if its whole record is the one that was seen, under a new epoch (rules 3, 19 and 20).
-- In meta, given is the last epoch that this run gave, known the highest that anybody else knew of.
-- KEYS: 1 meta, 2 room, 3 claims (stream)
-- ARGV: 1 run, 2 the record that was seen or '', 3 the end of the new record (' g node incarnation'), 4 ttl in ms, 5 what is expected of it: 'participants hint'
-- Returns: {1, epoch, now} granted, {0, record} another is there, {-1} another run
local meta = redis.call('HMGET', KEYS[1], 'run', 'given', 'known')
local run = ARGV[1]
if meta[1] ~= run then
  return { -1 }
end
local current = redis.call('GET', KEYS[2]) or ''
if string.sub(current, 1, #run) ~= run then
  current = ''
end
if current ~= ARGV[2] then
  return { 0, current }
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local epoch = math.max((meta[2] or 0) + 1, (meta[3] or 0) + 1, now)
local text = string.format('%.0f', epoch)
local record = run .. ' ' .. text .. ARGV[3]
redis.call('HSET', KEYS[1], 'given', text)
redis.call('SET', KEYS[2], record, 'PX', ARGV[4])
redis.call('XADD', KEYS[3], 'MAXLEN', '~', '10000', '*', KEYS[2], record .. ' ' .. ARGV[4] .. ' ' .. ARGV[5])
return { 1, epoch, now }
