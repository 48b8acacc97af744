-- Lanes: in an ordered target one transaction's events stand in a list, and only its first is due, leased or dead.
-- Included by scripts that end deliveries; they have set `now`, Redis's time in ms, before.
-- Writes lane:*, held:*, due:*.

-- Takes an event that has ended out of its lane. The next one in the lane becomes due.
local function advance(target, id, transaction)
    local lane = prefix .. 'lane:' .. target .. ':' .. transaction
    redis.call('LREM', lane, 1, id)
    local next = redis.call('LINDEX', lane, 0)
    local known = next and redis.call('HMGET', prefix .. 'event:' .. next, 'targets', 'end:' .. target)
    if known and (known[2] or not known[1]) then
        -- Another dead letter holds the rest: in Redis, or on the disk, where its record may be gone from here.
        redis.call('SADD', prefix .. 'held:' .. target, transaction)
        return
    end
    redis.call('SREM', prefix .. 'held:' .. target, transaction)
    if next and not redis.call('ZSCORE', prefix .. 'leased:' .. target, next) then
        redis.call('ZADD', prefix .. 'due:' .. target, 'NX', now, next)
    end
end

-- Tells whether an event, by its field `ordered`, stands in a lane of a target.
local function in_lane(target, ordered)
    return ordered and string.find(ordered, ',' .. target .. ',', 1, true)
end

-- Does what the target wants of a lane whose first has just become a dead letter: hold the rest, or go on.
local function end_in_lane(target, id, transaction, hold)
    if hold then
        redis.call('SADD', prefix .. 'held:' .. target, transaction)
    else
        advance(target, id, transaction)
    end
end
