-- Asserts that a room is open at a node that holds or held it (rules 9, 17 to 19).
-- KEYS: 1 meta, 2 room, 3 claims (stream)
-- ARGV: 1 run, 2 the open record as it was held, 3 the same under the wanted incarnation, 4 its epoch,
--       5 the end of the wanted record (' o node incarnation')
-- Returns: {1, epoch} open here, {0, record} lost, {-1} another run
local meta = redis.call('HMGET', KEYS[1], 'run', 'given', 'known')
local run, held = ARGV[1], tonumber(ARGV[4])
if meta[1] ~= run then
  return { -1 }
end
local current = redis.call('GET', KEYS[2]) or ''
if string.sub(current, 1, #run) ~= run then
  current = ''
end
if held >= 4503599627370496 then
  return { 0, current }
end
if current == ARGV[3] then
  return { 1, held }
end
local given, counter = meta[2], math.max(meta[2] or 0, meta[3] or 0)
local there = tonumber(string.match(current, '^%S+ (%d+)') or -1)
local epoch, field = held, 'known'
if given or there >= held then
  if current ~= '' and current ~= ARGV[2] then
    -- An answer with a new epoch may have been lost.
    local own = there > held and current == run .. ' ' .. string.format('%.0f', there) .. ARGV[5]
    return own and { 1, there } or { 0, current }
  end
  local time = redis.call('TIME')
  epoch = math.max(counter + 1, time[1] * 1000 + math.floor(time[2] / 1000))
  field = 'given'
end
local text = string.format('%.0f', epoch)
local record = run .. ' ' .. text .. ARGV[5]
if epoch > counter then
  redis.call('HSET', KEYS[1], field, text)
end
redis.call('SET', KEYS[2], record)
redis.call('XADD', KEYS[3], 'MAXLEN', '~', '10000', '*', KEYS[2], record .. ' 0')
return { 1, epoch }
