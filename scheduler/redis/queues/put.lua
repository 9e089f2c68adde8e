-- put: a message into its queue, and a wake-up beside it for one worker that has nothing to do.
--
-- KEYS  1 list of messages  2 its wake-up list: one token at most, for who wakes up looks at all that is there
-- ARGV  1 message  2 ms for which the wake-up is kept: queues of replies come and go
redis.call('LPUSH', KEYS[1], ARGV[1])
if redis.call('EXISTS', KEYS[2]) == 0 then
    redis.call('LPUSH', KEYS[2], 1)
    redis.call('PEXPIRE', KEYS[2], ARGV[2])
end
