-- Asserts that a room is open at a node that holds or held it (rules 9, 17 to 19).
-- KEYS: 1 meta, 2 room, 3 claims (stream)
-- ARGV: 1 run, 2 the open record as it was held, 3 the same under the wanted incarnation, 4 its epoch,
--       5 the end of the wanted record (' o node incarnation'), 6 the right to it: s (sure), p (provisional), c (confirming)
-- Returns: {1, epoch, 1 if provisional} open here, {0, record} lost, {-1} another run
local meta = redis.call('HMGET', KEYS[1], 'run', 'given', 'known')
local run, held, right = ARGV[1], tonumber(ARGV[4]), ARGV[6]
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
local provisional = right == 'p' and 1 or 0
if current == ARGV[3] and right ~= 'c' then
  return { 1, held, provisional }
end
local there = tonumber(string.match(current, '^%S+ (%d+)') or -1)
-- An answer with a new epoch may have been lost.
if there > held and current == run .. ' ' .. string.format('%.0f', there) .. ARGV[5] then
  return { 1, there, 0 }
end
local closed, counter = meta[2], math.max(meta[2] or 0, meta[3] or 0)
local epoch, field = held, 'known'
local is_own = current == ARGV[2]
if closed or right == 'c' or there >= held and not (is_own and right == 'p') then
  if current ~= '' and not is_own then
    return { 0, current }
  end
  local time = redis.call('TIME')
  epoch = math.max(counter + 1, time[1] * 1000 + math.floor(time[2] / 1000))
  provisional = 0
  if closed or right == 'c' then
    field = 'given'
  end
end
local text = string.format('%.0f', epoch)
local record = run .. ' ' .. text .. ARGV[5]
if epoch > counter then
  redis.call('HSET', KEYS[1], field, text)
end
redis.call('SET', KEYS[2], record)
redis.call('XADD', KEYS[3], 'MAXLEN', '~', '10000', '*', KEYS[2], record .. ' 0')
return { 1, epoch, provisional }
