-- join: a request follows the open run of its key, or leads one of its own. Leading and publishing are one step.
--
-- ARGV  3 id  4 key  5 lane, '' for none  6 rank of its queue, 0 the most urgent  7 the queue's list
--       8 '1' for a barrier  9 payload  10 message, '' to follow or learn that nobody leads  11 the message's delivery tag
--      12 the most followers of a run  13 '1' when a worker holds the message: then leading publishes nothing
-- Replies  follow LEADER LIFTED   it follows that run, which finishes for both
--          lead                   it leads: published now, before, or in the worker's hands
--          running LEADER         it has begun already
--          vacant                 nobody leads, and there was no message to lead with
--          full LEADER            the run has all the followers it may have
-- O(log n) in all requests; a lift is O(length of the message).
local id, key, lane, rank, queue = ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6]), ARGV[7]
local payload, message, tag = ARGV[9], ARGV[10], ARGV[11]

local function lead(run)
    run.state, run.tag, run.first_tag, run.copies = 'pending', tag, tag, 0
    redis.call('HSET', MESSAGES, id, message)
    redis.call('HSET', PAYLOADS, id, payload)
    if ARGV[13] ~= '1' then redis.call('LPUSH', run.queue, message) end
    shut_barrier(run.lane)
    save(id, run)
    look_after(id, look_ms)
    count('led')
    return { 'lead', id }
end

local mine = load(id)
if mine and mine.state ~= 'heir' then return { mine.state == 'running' and 'running' or 'lead', id } end
local followed = leader_of(id)
if followed then return { 'follow', followed, 0 } end

local leader, run = open_run(key)
if leader and not mine then
    local members = redis.call('ZLEXCOUNT', FOLLOWERS, '[' .. leader .. '\0', '(' .. leader .. '\1')
    if members >= tonumber(ARGV[12]) then return { 'full', leader } end
    follow(leader, id)
    redis.call('HSET', PAYLOADS, id, payload)
    count('folded')
    return { 'follow', leader, lift(leader, run, rank, queue) }
end
if message == '' then return { 'vacant', '' } end
if mine then return lead(mine) end

local new = { key = key, lane = lane, rank = rank, queue = queue, seq = next_seq(), asked_at = now, attempt = 0,
    barrier = ARGV[8] == '1' or nil }
local said = lead(new)
redis.call('HSET', OPEN, key, id)
if new.barrier then redis.call('ZADD', BARRIERS, 0, barrier_as(id, new)) end
return said
