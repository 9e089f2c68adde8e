-- repair: runs that went unseen for too long get what they lack: a message, a lane, or a new beginning after a dead worker.
--
-- ARGV  2 the most runs to look at
-- Replies  looked, died, republished, granted; then id and payload of each heir that was never published
-- O(log n + length of its queue, at most 20,000, for each run).
local died, republished, granted, heirs = 0, 0, 0, {}

-- A message in its queue is not lost, and one that a worker took a moment ago may yet begin.
local function is_on_its_way(id, run)
    local message = redis.call('HGET', MESSAGES, id)
    if redis.call('LLEN', run.queue) > DEEP or redis.call('LPOS', run.queue, message) then return true end
    local taken = redis.call('ZSCORE', HELD, run.tag)
    return taken and tonumber(taken) * 1000 > now - LOOK_MS
end

local function look_at(id, run)
    if run.state == 'running' then
        wait_again(id, run, 0, true)
        died = died + 1
    elseif run.state == 'heir' then
        heirs[#heirs + 1] = id
        heirs[#heirs + 1] = redis.call('HGET', PAYLOADS, id)
        look_after(id, LOOK_MS)
    elseif run.state == 'parked' then
        look_after(id, LOOK_MS)
        local holder = redis.call('HGET', LANES, run.lane)
        local other = load(holder)
        if other.lease <= now and other.state == 'running' then
            look_at(holder, other) -- first: it could say that it lives when the lane is another's
        elseif other.lease <= now then
            hand_lane_on(run.lane)
            granted = granted + 1
        end
    else
        if run.state == 'granted' then
            run.state, run.lease = 'pending', nil
            save(id, run)
            free_lane(id, run.lane)
        end
        if not is_on_its_way(id, run) then
            run.copied = true
            push_again(id, run, 'LPUSH')
            shut_barrier(run.lane)
            save(id, run)
            republished = republished + 1
        end
        -- A worker that is busy may hold it for long: each further copy waits twice as long.
        look_after(id, LOOK_MS * 2 ^ math.min(run.copies, 6))
    end
end

local due = redis.call('ZRANGEBYSCORE', DUE, '-inf', now, 'LIMIT', 0, tonumber(ARGV[2]))
for _, id in ipairs(due) do
    -- What was done for one of them may have been what another lacked.
    local at = redis.call('ZSCORE', DUE, id)
    if at and tonumber(at) <= now then look_at(id, load(id)) end
end
redis.call('ZREMRANGEBYSCORE', SETTLED, '-inf', now)
local reply = { #due, died, republished, granted }
for _, part in ipairs(heirs) do reply[#reply + 1] = part end
return reply
