-- renew: executions say that they live. One that Redis has forgotten takes its lane again, so that none begins beside it.
--
-- ARGV  2 lease_ms, then for each execution  id  token  lane
-- Replies  the ids of executions that are no longer their runs': another has begun in their place
-- O(log n for each execution).
local lease_ms, lost = tonumber(ARGV[2]), {}
for at = 3, #ARGV, 3 do
    local id, token, lane = ARGV[at], ARGV[at + 1], ARGV[at + 2]
    local run = load(id)
    local is_forgotten = not run and not leader_of(id) and not redis.call('ZSCORE', SETTLED, id)
    local is_only_told_of = run and run.state == 'running' and not run.token
    local holder = redis.call('HGET', LANES, lane)
    if (is_forgotten or is_only_told_of) and (not holder or holder == id) then
        run = bare(lane)
        run.token = token
        if lane ~= '' then redis.call('HSET', LANES, lane, id) end
    end
    if run and run.state == 'running' and run.token == token then
        run.lease = now + lease_ms
        save(id, run)
        look_after(id, lease_ms)
    else
        lost[#lost + 1] = id
    end
end
return lost
