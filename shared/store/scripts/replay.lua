-- Sends events to a target again, from the first attempt of a fresh schedule.
--   KEYS[1] due:<target>   KEYS[2] leased:<target>   KEYS[3] dead:<target>
--   ARGV[1] target   then event ids
-- Writes event:*, open, finished, packed, lane:*, held:*.
-- Returns for each `replayed`, `waiting` (it is on its way already) or `gone`.
-- If repeated: the second call finds it waiting.
local prefix = KEYS[#KEYS]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local target = ARGV[1]

-- include: lanes.lua

local function replay(id)
    local event = prefix .. 'event:' .. id
    local targets = redis.call('HGET', event, 'targets')
    if not targets then
        return 'gone'
    end
    if redis.call('ZSCORE', KEYS[1], id) or redis.call('ZSCORE', KEYS[2], id) then
        return 'waiting'
    end
    local waits = redis.call('HMGET', event, 'ordered', 'transaction', 'end:' .. target)
    if not waits[3] and in_lane(target, waits[1])
        and redis.call('LPOS', prefix .. 'lane:' .. target .. ':' .. waits[2], id) then
        return 'waiting'
    end
    redis.call('ZREM', KEYS[3], id)
    local known = string.find(',' .. targets .. ',', ',' .. target .. ',', 1, true)
    local ended = redis.call('HGET', event, 'end:' .. target)
    -- `open` counts this delivery already if it is a dead letter in Redis or never ended. It does not if it ended
    -- otherwise, or if the event was not for this target.
    if not known or (ended and ended ~= 'dead') then
        if redis.call('HINCRBY', event, 'open', 1) == 1 then
            redis.call('ZREM', prefix .. 'finished', id)
            redis.call('ZREM', prefix .. 'packed', id)
            redis.call('ZADD', prefix .. 'open', tonumber(string.sub(id, 5, 15), 16), id)
        end
    end
    if not known then
        redis.call('HSET', event, 'targets', targets == '' and target or targets .. ',' .. target)
    end
    for _, name in ipairs({'end:', 'why:', 'failed:', 'age:', 'lapsed:', 'since:'}) do
        redis.call('HDEL', event, name .. target)
    end
    -- In an ordered target it waits in its transaction's lane: at its place, if it is there already (a dead letter that
    -- holds the rest), else behind all others.
    local lane = redis.call('HMGET', event, 'ordered', 'transaction')
    if in_lane(target, lane[1]) then
        local key = prefix .. 'lane:' .. target .. ':' .. lane[2]
        local place = redis.call('LPOS', key, id) or redis.call('RPUSH', key, id) - 1
        if place > 0 then
            return 'replayed'
        end
        redis.call('SREM', prefix .. 'held:' .. target, lane[2])
    end
    redis.call('ZADD', KEYS[1], now, id)
    return 'replayed'
end

local results = {}
for i = 2, #ARGV do
    results[#results + 1] = replay(ARGV[i])
end
return results
