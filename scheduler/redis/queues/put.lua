-- put: a message into its queue, and a call beside it for one worker that has nothing to do.
--
-- KEYS  1 list of messages  2 its wake-up list
-- ARGV  1 message
redis.call('LPUSH', KEYS[1], ARGV[1])
call_for(KEYS[2])
