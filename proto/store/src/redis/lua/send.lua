-- Sends a command to a node. The list is short and short-lived: nobody waits for a command for long.
-- KEYS: 1 commands (stream)
-- ARGV: 1 command
-- Returns: nothing
redis.call('XADD', KEYS[1], 'MAXLEN', '~', '200', '*', 'command', ARGV[1])
redis.call('PEXPIRE', KEYS[1], 60000)
