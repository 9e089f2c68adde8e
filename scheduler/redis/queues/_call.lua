-- What pick, put and once begin with. Somebody who sleeps on a queue is called by a token in its wake-up list: one at most, for
-- who wakes up looks at all that is there; and for so long, for queues of replies come and go.
-- Written above this by picking.py: STAMP  REFUSED_MOST  NO_BOUND  WAKE_MS
local function call_for(wake)
    if redis.call('EXISTS', wake) == 0 then
        redis.call('LPUSH', wake, 1)
        redis.call('PEXPIRE', wake, WAKE_MS)
    end
end

