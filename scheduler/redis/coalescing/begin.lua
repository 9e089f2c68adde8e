-- begin: a run starts: from here on a request of its key leads its own. It takes its lane, or parks behind who has it.
--
-- ARGV  2 id  3 token of this execution  4 lease_ms: for how long it is taken to live without a sign
-- Replies  run ATTEMPT LANE_WAIT_MS ASKED_AT DEFERS QUEUE, then id and payload of each follower; DEFERS: how often it parked
--          since its message was published, QUEUE: the list that it came from, since a lift another than it was sent to
--          parked HOLDER    its lane is taken; who frees the lane publishes it again
--          running HOLDER   it runs already: this message is a copy
--          follow LEADER    it follows another run: this message is a copy
--          settled          it has ended: this message is a copy
--          heir             it has yet to be published: this message is a copy
--          unknown          Redis has forgotten it: join, then begin
-- O(log n + followers of the run).
local id, token, lease_ms = ARGV[2], ARGV[3], tonumber(ARGV[4])
local run = load(id)
if not run then
    local followed = leader_of(id)
    if followed then return { 'follow', followed } end
    if redis.call('ZSCORE', SETTLED, id) then return { 'settled', '' } end
    return { 'unknown', '' }
end
if run.state == 'heir' then return { 'heir', '' } end
if run.state == 'running' and run.lease > now and run.token ~= token then return { 'running', id } end

if run.lane ~= '' then
    local holder = redis.call('HGET', LANES, run.lane)
    local other = holder and holder ~= id and load(holder)
    if other and other.lease > now then
        park(id, run)
        count('parked')
        return { 'parked', holder }
    end
    -- Taken before who held it waits again, or it would go to a third.
    redis.call('HSET', LANES, run.lane, id)
    if other and other.state == 'running' then
        wait_again(holder, other, 0, true)
        run = load(id) -- the other may have folded into this one, and lifted it
    end
end

redis.call('ZREM', PARKED, parked_as(id, run))
close(id, run)
local waited = run.parked_at and now - run.parked_at or 0
if run.token ~= token then run.attempt = run.attempt + 1 end
run.state, run.token, run.lease, run.parked_at = 'running', token, now + lease_ms, nil
save(id, run)
look_after(id, lease_ms)
count('begun')

local reply = { 'run', run.attempt, waited, run.asked_at, run.defers or 0, run.queue }
for _, follower in ipairs(followers_of(id)) do
    reply[#reply + 1] = follower
    reply[#reply + 1] = redis.call('HGET', PAYLOADS, follower)
end
return reply
