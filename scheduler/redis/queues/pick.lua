-- pick: take up to so many messages by the policy of scheduler/core/queues.py, and record them as held, in one step (I33).
--
-- KEYS  1..n lists of messages, n+1..2n their wake-up lists, then
--       +1 held     hash  delivery tag -> message, its exchange and routing key, as the broker's own restore reads it
--       +2 index    zset  delivery tag by the time it was taken, in seconds
--       +3 policy   hash  class -> 'bound_ms reserve', over the arguments' own
--       +4 credit   hash  class -> credit of its reserve
--       +5 counts   hash  'queue counter' -> count
--       +6 refused  list  what is no message, at most so many
--       +7 handed   string  which call took messages last, and their delivery tags: for who never heard the answer
-- ARGV  1 number of queues n  2 number of classes m
--       for each queue  its name, its class (1 is the best), '1' to record what is taken of it
--       for each class  its name, bound in ms, reserve
--       then  now in ms, the most messages to take, the number of this call or 0
-- Reply 1 when messages are left, 0 when not; then for each one taken the number of its queue, its tag and itself.
-- O(queues + messages taken).
local n, m = tonumber(ARGV[1]), tonumber(ARGV[2])
local HELD, INDEX, POLICY = KEYS[2 * n + 1], KEYS[2 * n + 2], KEYS[2 * n + 3]
local CREDIT, COUNTS, REFUSED, HANDED = KEYS[2 * n + 4], KEYS[2 * n + 5], KEYS[2 * n + 6], KEYS[2 * n + 7]
local now, most, call = tonumber(ARGV[#ARGV - 2]), tonumber(ARGV[#ARGV - 1]), ARGV[#ARGV]

local TAG_MOST = 200
local HEAD = '{"' .. STAMP .. '": '
local HANDED_TTL_S = 600 -- who was cut off asks as soon as it is connected again
local CREDIT_TTL_S = 3600 -- workers of other queues than before leave theirs behind

local waited, oldest = {}, {}
local names, bound, reserve = {}, {}, {}
local credit, spent

local function name_of(queue) return ARGV[3 * queue] end
local function class_of(queue) return tonumber(ARGV[3 * queue + 1]) end

-- Who stamps nothing has a message's age counted from when its queue was first seen with such a message, until it is empty.
local function age(queue, message)
    local at = string.sub(message, 1, #HEAD) == HEAD and string.match(message, '^%d+', #HEAD + 1)
    if at then return now - tonumber(at) end
    local field = name_of(queue) .. ' unstamped'
    redis.call('HSETNX', COUNTS, field, now)
    return now - tonumber(redis.call('HGET', COUNTS, field))
end

local function look(queue)
    local message = redis.call('LINDEX', KEYS[queue], -1)
    waited[queue] = message and age(queue, message) or nil
end

-- A class is as old as the oldest of its queues' next messages.
local function look_at_class(class)
    oldest[class] = nil
    for queue = 1, n do
        if waited[queue] and class_of(queue) == class then
            local first = oldest[class]
            if not first or waited[queue] > waited[first] then oldest[class] = queue end
        end
    end
end

local function load_policy()
    for class = 1, m do
        local at = 3 * n + 3 * class
        names[class], bound[class], reserve[class] = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
    end
    for class, text in ipairs(redis.call('HMGET', POLICY, unpack(names))) do
        if text then
            local ms, share = string.match(text, '^(%S+) (%S+)$')
            bound[class], reserve[class] = tonumber(ms) or bound[class], tonumber(share) or reserve[class]
        end
    end
end

local function load_credit()
    credit = {}
    for class, left in ipairs(redis.call('HMGET', CREDIT, unpack(names))) do credit[class] = tonumber(left or 1) end
end

-- What a class was passed over for it makes up for while it is overdue. Kept for later, that would pass all at once.
local function choose()
    local best, due, overdue = nil, nil, {}
    for class = 1, m do
        local queue = oldest[class]
        if queue and not best then
            best = class
        elseif queue then
            local overdue_ms = waited[queue] - bound[class]
            if overdue_ms > 0 and reserve[class] > 0 then overdue[class] = overdue_ms end
        end
    end
    if not next(overdue) then return best, false end
    if not credit then load_credit() end
    spent = true
    for class = 1, m do
        if overdue[class] then
            credit[class] = credit[class] + reserve[class]
            if credit[class] >= 1 and (not due or overdue[class] > overdue[due]) then due = class end
        else
            credit[class] = math.min(credit[class], 1)
        end
    end
    if due then credit[due] = credit[due] - 1 end
    return due or best, due ~= nil
end

local reply, held, index, handed, counted = { 0 }, {}, {}, { call }, {}

-- Not of queues that come and go, as those of replies do: they are in no class, and nothing would forget them.
local function count(queue, what)
    if bound[class_of(queue)] >= NO_BOUND then return end
    local field = name_of(queue) .. ' ' .. what
    counted[field] = (counted[field] or 0) + 1
end

local function take(queue)
    local message = redis.call('RPOP', KEYS[queue])
    -- A tag is a name of keys and of answers: of letters that mean nothing there.
    local tag = string.match(message, '.*"delivery_tag":%s*"([%w%-%._:/@]+)"')
    if not tag or #tag > TAG_MOST then -- nobody could acknowledge it
        redis.call('LPUSH', REFUSED, string.sub(message, 1, REFUSED_BYTES))
        redis.call('LTRIM', REFUSED, 0, REFUSED_MOST - 1)
        count(queue, 'refused')
        return 0
    end
    if ARGV[3 * queue + 2] == '1' then
        held[#held + 1] = tag
        -- Without an exchange the routing key is the queue: back to where it came from, whatever has been bound since.
        held[#held + 1] = '[' .. message .. ',"",' .. cjson.encode(name_of(queue)) .. ']'
        index[#index + 1] = string.format('%.3f', now / 1000)
        index[#index + 1] = tag
        handed[#handed + 1] = tag
    end
    reply[#reply + 1] = queue
    reply[#reply + 1] = tag
    reply[#reply + 1] = message
    return 1
end

for queue = 1, n do look(queue) end
if not next(waited) then return reply end
load_policy()
for class = 1, m do look_at_class(class) end

local taken = 0
while taken < most do
    local class, reserved = choose()
    if not class then break end
    local queue = oldest[class]
    if reserved then count(queue, 'reserved') end
    if waited[queue] > bound[class] then count(queue, 'late') end
    count(queue, 'taken')
    taken = taken + take(queue)
    look(queue)
    if not waited[queue] then redis.call('HDEL', COUNTS, name_of(queue) .. ' unstamped') end
    look_at_class(class)
end

if #held > 0 then
    redis.call('HSET', HELD, unpack(held))
    redis.call('ZADD', INDEX, unpack(index))
    if call ~= '0' then redis.call('SET', HANDED, table.concat(handed, ' '), 'EX', HANDED_TTL_S) end
end
for field, by in pairs(counted) do redis.call('HINCRBY', COUNTS, field, by) end
if spent then
    local left = {}
    for class = 1, m do
        left[2 * class - 1], left[2 * class] = names[class], string.format('%.17g', credit[class])
    end
    redis.call('HSET', CREDIT, unpack(left))
    redis.call('EXPIRE', CREDIT, CREDIT_TTL_S)
end
-- Whoever sleeps is told of what is left: one wake-up may stand for many messages.
for queue = 1, n do
    if waited[queue] then
        reply[1] = 1
        call_for(KEYS[n + queue])
    end
end
return reply
