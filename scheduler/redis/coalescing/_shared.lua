-- What the coalescing scripts share. To define it all takes time, and the commonest requests do without: see quick.lua.
local GRANT_MS = 5000             -- a lane is kept for a woken run for so long, then for whoever comes
local COPY_MS = 2 * 3600 * 1000   -- copies of a message may arrive for so long: twice the broker's usual visibility timeout
local DEEP = 20000                -- in a longer queue no message is looked for: a backlog is no loss

local function load(id)
    local text = redis.call('HGET', RUNS, id)
    return text and cjson.decode(text) or nil
end

-- A run of which only the lane is known: SQL has told of it, or it gives signs of life after a flush.
local function bare(lane)
    count('bare')
    return { state = 'running', key = '', lane = lane, rank = 0, queue = '', seq = next_seq(), asked_at = now, attempt = 1 }
end

local function parked_as(id, run)
    return string.format('%s\0%02d\0%016d\0%s', run.lane, run.rank, run.seq, id)
end

local function barrier_as(id, run)
    return string.format('%s\0%016d\0%s', run.lane, run.seq, id)
end

local function unfollow(id)
    local member = redis.call('HGET', FOLLOWING, id)
    if not member then return false end
    redis.call('ZREM', FOLLOWERS, member)
    redis.call('HDEL', FOLLOWING, id)
    return true
end

local function leader_of(id)
    local member = redis.call('HGET', FOLLOWING, id)
    return member and string.sub(member, 1, #member - #id - 18)
end

local function followers_of(leader)
    local ids = redis.call('ZRANGEBYLEX', FOLLOWERS, '[' .. leader .. '\0', '(' .. leader .. '\1')
    for at, member in ipairs(ids) do ids[at] = string.sub(member, #leader + 19) end
    return ids
end

-- Who was asked for before, and follows another now.
local function follow_on(leader, id)
    follow(leader, id)
    count('handed')
end

local function hand_followers(from, to)
    for _, id in ipairs(followers_of(from)) do
        unfollow(id)
        follow_on(to, id)
    end
end

local function open_id(key)
    local open = redis.call('HGET', OPEN, key)
    return open and string.sub(open, 3)
end

local function close(id, run)
    if open_id(run.key) == id then redis.call('HDEL', OPEN, run.key) end
end

-- The last barrier of a lane and its place in the sequence.
local function last_barrier(lane)
    local last = redis.call('ZREVRANGEBYLEX', BARRIERS, '(' .. lane .. '\1', '[' .. lane .. '\0', 'LIMIT', 0, 1)[1]
    if not last then return nil, 0 end
    return string.sub(last, #lane + 19), tonumber(string.sub(last, #lane + 2, #lane + 17))
end

-- What is queued behind a barrier is done after it. A request that followed the barrier from here on would be undone by that.
local function shut_barrier(lane)
    local id = last_barrier(lane)
    if id then close(id, load(id)) end
end

local function is_barred(run)
    local _, seq = last_barrier(run.lane)
    return run.seq < seq
end

-- The run that a request of the key may follow.
local function open_run(key)
    local id = open_id(key)
    if not id then return nil end
    local run = load(id)
    if is_barred(run) then return nil end
    return id, run
end

-- The run that may take over whom this one served.
local function other_open(run)
    if is_barred(run) then return nil end
    return open_run(run.key)
end

local function reopen(id, run)
    if not run.barrier and not is_barred(run) then open_as(id, run) end
end

-- Put the run's message into its queue once more. Two messages of one delivery tag would acknowledge each other.
local function push_again(id, run, command)
    local message = redis.call('HGET', MESSAGES, id)
    run.copies = run.copies + 1
    local tag = run.first_tag .. '.' .. run.copies
    local from, to = string.find(message, run.tag, 1, true)
    message = string.sub(message, 1, from - 1) .. tag .. string.sub(message, to + 1)
    redis.call('HSET', MESSAGES, id, message)
    run.tag = tag
    publish(command, run.queue, message)
end

-- Of the runs parked behind a free lane, the most urgent and then the oldest gets it, at the head of its queue: it has
-- waited there before. Kept for it, or one who comes just now would pass.
local function hand_lane_on(lane)
    local parked = redis.call('ZRANGEBYLEX', PARKED, '[' .. lane .. '\0', '(' .. lane .. '\1', 'LIMIT', 0, 1)[1]
    if not parked then return '' end
    local id = string.sub(parked, #lane + 22)
    local run = load(id)
    redis.call('ZREM', PARKED, parked)
    run.state, run.lease = 'granted', now + GRANT_MS
    redis.call('HSET', LANES, lane, id)
    push_again(id, run, 'RPUSH')
    save(id, run)
    look_after(id, GRANT_MS)
    count('granted')
    return id
end

local function free_lane(id, lane)
    if redis.call('HGET', LANES, lane) ~= id then return '' end
    redis.call('HDEL', LANES, lane)
    return hand_lane_on(lane)
end

local function park(id, run)
    run.parked_at, run.defers = run.parked_at or now, (run.defers or 0) + (run.state == 'parked' and 0 or 1)
    run.state = 'parked'
    redis.call('ZADD', PARKED, 0, parked_as(id, run))
    save(id, run)
    look_after(id, LOOK_MS)
end

-- An urgent request that follows a less urgent run takes it along to its own queue.
local function lift(id, run, rank, queue)
    if rank >= run.rank then return 0 end
    redis.call('ZREM', PARKED, parked_as(id, run))
    run.rank, run.queue = rank, queue
    open_as(id, run)
    if run.state == 'parked' then
        redis.call('ZADD', PARKED, 0, parked_as(id, run))
    elseif run.state ~= 'heir' then
        run.copied = true
        push_again(id, run, 'LPUSH')
    end
    save(id, run)
    count('lifted')
    return 1
end

local function fold_into(leader, target, id, run)
    hand_followers(id, leader)
    lift(leader, target, run.rank, run.queue)
end

-- A message held for longer than the broker waits for its acknowledgement has been handed out a second time, too.
local function forget_run(id, run)
    redis.call('HDEL', RUNS, id)
    redis.call('HDEL', MESSAGES, id)
    redis.call('ZREM', DUE, id)
    redis.call('ZREM', PARKED, parked_as(id, run))
    redis.call('ZREM', BARRIERS, barrier_as(id, run))
    close(id, run)
    if run.copied or now - run.asked_at > COPY_MS / 2 then redis.call('ZADD', SETTLED, now + COPY_MS, id) end
end

-- A begun run has to wait for another beginning. If a later request leads its key meanwhile, it folds into that one.
-- Returns who leads it from here on; nil if it was bare, and is forgotten: who asked for it asks again.
local function wait_again(id, run, after_ms, died)
    local leader, target = other_open(run)
    if redis.call('HEXISTS', MESSAGES, id) == 0 then
        leader = nil
        forget_run(id, run)
    elseif leader then
        follow_on(leader, id)
        fold_into(leader, target, id, run)
        run.copied = true -- a message of it may be on its way still, and must not run it when the other has
        forget_run(id, run)
    else
        leader = id
        run.state, run.token, run.lease = 'pending', nil, nil
        shut_barrier(run.lane)
        reopen(id, run)
        if died then
            run.copied = true
            push_again(id, run, 'LPUSH')
        end
        save(id, run)
        look_after(id, after_ms + LOOK_MS)
    end
    free_lane(id, run.lane)
    return leader
end
