-- settle: a run ends, waits for another beginning, or is given up; its lane goes to who waits for it, in the same step.
--
-- ARGV  2 id  3 token of the execution; '' = whoever saw its end from outside
--       4 outcome  done      it ended, and every follower has been told
--                  again     it retries: 5 is its new message, 6 that one's tag, 7 the ms until it is due
--                  returned  the broker has its message again
--                  behind    SQL says that its lane is taken: 5 by whom, 7 the ms that one's lease has left
--                  given_up  it will not run (revoked, expired, rejected, lost): its first follower takes its place
-- Replies  done WOKEN          WOKEN: who got the lane, or ''
--          waiting LEADER      it waits: as itself, or as a follower of LEADER
--          heir ID PAYLOAD     ID leads now: join it with its message
--          gone                nobody has to take its place; or it only followed, and does no longer
--          lost                this execution is not the run's any more: another has begun, or Redis has forgotten it and
--                              cannot let it wait
-- O(log n for each follower).
local id, token, outcome = ARGV[2], ARGV[3], ARGV[4]
local run = load(id)
-- A run that only SQL has told of (see behind) has no token yet: whoever runs it knows that it does.
local is_mine = run and (token == '' or run.token == token or (run.state == 'running' and not run.token))

-- Its rank and place are the heir's, for all who follow have waited as long; copies of a message are there if it led before.
local function inherit(heir)
    unfollow(heir)
    hand_followers(id, heir)
    local told_of = load(heir) -- by SQL, which keeps the lane for it
    local new = { state = 'heir', key = run.key, lane = run.lane, rank = run.rank, queue = run.queue, seq = run.seq,
        asked_at = run.asked_at, attempt = 0, barrier = run.barrier, copied = true, lease = told_of and told_of.lease }
    save(heir, new)
    if run.barrier then redis.call('ZADD', BARRIERS, 0, barrier_as(heir, new)) end
    reopen(heir, new)
    look_after(heir, LOOK_MS)
    count('inherited')
    return { 'heir', heir, redis.call('HGET', PAYLOADS, heir) }
end

local function give_up()
    redis.call('HDEL', PAYLOADS, id)
    local followed = unfollow(id)
    if not run then return { followed and 'gone' or 'lost' } end
    run.copied = true -- its own message may not have come yet
    forget_run(id, run)
    local first, reply = followers_of(id)[1], { 'gone' }
    local other, target = other_open(run)
    if first and other then
        fold_into(other, target, id, run)
    elseif first then
        reply = inherit(first)
    end
    free_lane(id, run.lane)
    return reply
end

if outcome == 'given_up' and (is_mine or not run) then return give_up() end
if not is_mine or run.state ~= 'running' then return { 'lost' } end

if outcome == 'done' then
    for _, follower in ipairs(followers_of(id)) do
        unfollow(follower)
        redis.call('HDEL', PAYLOADS, follower)
    end
    redis.call('HDEL', PAYLOADS, id)
    unfollow(id) -- it was taken for dead, folded into another, and SQL told of it since
    forget_run(id, run)
    count('ended')
    return { 'done', free_lane(id, run.lane) }
end

if outcome == 'behind' then
    local holder = ARGV[5]
    local other = load(holder) or bare(run.lane)
    other.lease = math.max(other.lease or 0, now + tonumber(ARGV[7]))
    save(holder, other)
    look_after(holder, other.lease - now)
    redis.call('HSET', LANES, run.lane, holder)
end
local leader = wait_again(id, run, tonumber(ARGV[7] or 0), false)
if not leader then return { 'lost' } end
if leader == id and outcome == 'again' then
    run.tag, run.first_tag, run.copies, run.defers = ARGV[6], ARGV[6], 0, nil
    redis.call('HSET', MESSAGES, id, ARGV[5])
    publish('LPUSH', run.queue, ARGV[5])
    save(id, run)
elseif leader == id and outcome == 'behind' then
    park(id, run)
end
return { 'waiting', leader }
