-- Reads a room's record and the run that it counts in.
-- KEYS: 1 meta, 2 room
-- ARGV: none
-- Returns: {run, record}, each '' where absent
return { redis.call('HGET', KEYS[1], 'run') or '', redis.call('GET', KEYS[2]) or '' }
