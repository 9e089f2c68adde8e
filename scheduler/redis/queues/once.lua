-- once: a message into its queue, unless it was put there before, or its sender's time is over.
--
-- The message and the mark that it was put are one step. Marked before it, a sender that dies in between would lose the
-- message; marked after it, who sends it in the dead one's place would send it twice.
--
-- KEYS  1 string: the highest epoch of any sender  2 string: the mark of this message  and to put it
--       3 list of messages  4 its wake-up list
-- ARGV  1 epoch of the sender  2 ms for which the mark stays  3 message, to put it; else only to learn whether it may be sent
-- Replies  over EPOCH   a later sender was here: this one's time is over
--          known        it was put before
--          free         it may be sent, and was not put now
--          put
-- O(1), and O(length of the message).
local epoch, highest = tonumber(ARGV[1]), tonumber(redis.call('GET', KEYS[1]) or '0')
if epoch < highest then return { 'over', highest } end
if epoch > highest then redis.call('SET', KEYS[1], ARGV[1]) end
if redis.call('EXISTS', KEYS[2]) == 1 then return { 'known' } end
if not ARGV[3] then return { 'free' } end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
redis.call('LPUSH', KEYS[3], ARGV[3])
call_for(KEYS[4])
return { 'put' }
