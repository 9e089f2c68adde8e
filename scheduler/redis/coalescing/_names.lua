-- What the coalescing scripts begin with: names, and what leading and following need. protocol.py puts it before each of them.
--
-- A REQUEST is one task id. A RUN is a request that leads: its message stands for it and for those who FOLLOW it.
-- A run is  pending   its message is in a queue
--           parked    its lane was taken when it arrived; it has no message until it is granted the lane
--           granted   the lane is kept for it, its message is at the head of its queue
--           running   begun, until its lease ends
--           heir      took the place of a leader that is gone; its message has yet to be built
-- A run that is not running may be OPEN: others of its key follow it. Of the runs of one key at most one is open, and none
-- across a barrier: neither one that a barrier of its lane came after, nor a barrier that anything came behind.
-- A run is BARE if Redis was flushed and has heard of it since by signs of life alone: it can end, but nothing else.
--
-- KEYS  1 runs       hash  id -> run          8 payloads  hash  id -> what builds the request's message again
--       2 messages   hash  id -> message      9 due       zset  id by the time to look at its run
--       3 open       hash  key -> rank, id  10 settled   zset  id by the time until which a copy of it may still arrive
--       4 lanes      hash  lane -> id        11 counts    hash  counters; led and folded are sequences as well
--       5 barriers   zset  lane, sequence, id                    (all of score 0, in the order of their text)
--       6 parked     zset  lane, rank, sequence, id              (likewise)
--       7 followers  zset  leader, sequence, id                  (likewise)
--      12 following  hash  id -> its member of followers
--      13 the broker's index of messages that workers hold, by the time they took them
-- Lists of messages are the broker's and named by the runs, and beside each of them is a list that wakes who waits for it:
-- the broker cannot be a cluster, so no script can meet two slots.
-- Any call may come twice: a client whose answer was lost on the way asks again.
-- Written above this by protocol.py, for they never change:
--       PREFIX of all keys   WAKE what the names of lists that wake begin with   FOLLOWERS_MAX the most followers of a run
--       LOOK_MS how long a run may go unseen before it is looked at
-- ARGV  1 now (ms)
local RUNS, MESSAGES, OPEN, LANES, BARRIERS, PARKED, FOLLOWERS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local PAYLOADS, DUE, SETTLED, COUNTS, FOLLOWING, HELD = KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12], KEYS[13]
local now = tonumber(ARGV[1])

local function count(what)
    redis.call('HINCRBY', COUNTS, what, 1)
end

-- Members of the three sorted sets compare as text, so numbers have a fixed width.
local function follow(leader, id)
    local seq = redis.call('HINCRBY', COUNTS, 'folded', 1)
    local member = string.format('%s\0%016d\0%s', leader, seq, id)
    redis.call('ZADD', FOLLOWERS, 0, member)
    redis.call('HSET', FOLLOWING, id, member)
end

local function save(id, run)
    redis.call('HSET', RUNS, id, cjson.encode(run))
end

local function look_after(id, ms)
    redis.call('ZADD', DUE, now + ms, id)
end

-- The place of a run among all runs.
local function next_seq()
    return redis.call('HINCRBY', COUNTS, 'led', 1)
end

-- The run of a key that others follow, unless a barrier came after it; with its rank, for who asks for no more than that.
local function open_as(id, run)
    redis.call('HSET', OPEN, run.key, string.format('%02d%s', run.rank, id))
end

-- A message alone wakes nobody: workers with nothing to do wait for the token that stands for all messages of a queue.
local function publish(command, queue, message)
    redis.call(command, queue, message)
    local wake = PREFIX .. WAKE .. string.sub(queue, #PREFIX + 1)
    if redis.call('LLEN', wake) == 0 then redis.call('LPUSH', wake, '1') end
end

