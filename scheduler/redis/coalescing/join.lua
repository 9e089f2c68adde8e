-- join: a request follows the open run of its key, or leads one of its own. Leading and publishing are one step.
--
-- ARGV  2 id  3 key  4 lane, '' for none  5 rank of its queue, 0 the most urgent  6 the queue's list
--       7 '1' for a barrier  8 payload; and to lead, not only to follow or to learn that nobody leads:
--       9 message  10 the message's delivery tag  11 '1' when a worker holds the message: then leading publishes nothing
-- Replies  follow LEADER LIFTED   it follows that run, which finishes for both
--          lead                   it leads: published now, before, or in the worker's hands
--          running LEADER         it has begun already
--          vacant                 nobody leads, and there was no message to lead with
--          full LEADER            the run has all the followers it may have
-- O(log n) in all requests; a lift is O(length of the message).
local mine = load(id)
if mine and mine.state ~= 'heir' then return { mine.state == 'running' and 'running' or 'lead', id } end
local followed = leader_of(id)
if followed then return { 'follow', followed, 0 } end

local leader, run
if open then leader, run = open_run(key) end
if leader and not mine then
    local members = redis.call('ZLEXCOUNT', FOLLOWERS, '[' .. leader .. '\0', '(' .. leader .. '\1')
    if members >= FOLLOWERS_MAX then return { 'full', leader } end
    follow(leader, id)
    redis.call('HSET', PAYLOADS, id, payload)
    return { 'follow', leader, lift(leader, run, rank, queue) }
end
if not message then return { 'vacant', '' } end
redis.call('HSET', PAYLOADS, id, payload)
shut_barrier(lane)
if mine then
    count('led')
    return lead(mine)
end
local said, new = lead_anew()
if new.barrier then redis.call('ZADD', BARRIERS, 0, barrier_as(id, new)) end
return said
