-- quick: the common cases of join, before all that they do not need; protocol.py puts it before the rest of join.
--
-- No barrier stands anywhere and the request is new. If its key has an open run, as urgent and with room, it follows that; if
-- it has none, it leads. Whatever else is so is for join to see. ARGV and replies are join's.
-- O(log n) in all requests.
local id, key, lane, rank, queue = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6]
local is_barrier, payload, message, tag = ARGV[7] == '1', ARGV[8], ARGV[9], ARGV[10]

local function is_new()
    -- Who follows has a payload, and so has who leads, if Redis was not flushed since.
    return redis.call('HEXISTS', RUNS, id) == 0 and redis.call('HSETNX', PAYLOADS, id, payload) == 1
end

local function lead(run)
    run.state, run.tag, run.first_tag, run.copies = 'pending', tag, tag, 0
    redis.call('HSET', MESSAGES, id, message)
    if ARGV[11] ~= '1' then publish('LPUSH', run.queue, message) end
    save(id, run)
    look_after(id, LOOK_MS)
    return { 'lead', id }
end

local function lead_anew()
    local run = { key = key, lane = lane, rank = rank, queue = queue, seq = next_seq(), asked_at = now, attempt = 0,
        barrier = is_barrier or nil }
    open_as(id, run)
    return lead(run), run
end

local open = redis.call('HGET', OPEN, key)
local no_barrier = redis.call('ZCARD', BARRIERS) == 0
if no_barrier and open and rank >= tonumber(string.sub(open, 1, 2))
    and redis.call('ZCARD', FOLLOWERS) < FOLLOWERS_MAX
    and is_new() then
    local leader = string.sub(open, 3)
    follow(leader, id)
    return { 'follow', leader, 0 }
end
if no_barrier and message and not open and not is_barrier and is_new() then return (lead_anew()) end

