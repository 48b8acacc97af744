-- Keeps lanes: a lane is the list of one transaction's events in an ordered target. Only its first is due, leased or
-- dead.
-- Included by scripts that end deliveries, which set `now` before: Redis's time, ms.
-- Writes lane:*, held:*, due:*.

-- Removes an event that has ended from its lane. The next one in the lane becomes due.
local function advance(target, id, transaction)
    local lane = prefix .. 'lane:' .. target .. ':' .. transaction
    redis.call('LREM', lane, 1, id)
    local next = redis.call('LINDEX', lane, 0)
    local known = next and redis.call('HMGET', prefix .. 'event:' .. next, 'targets', 'end:' .. target)
    if known and (known[2] or not known[1]) then
        -- Another dead letter holds the rest. If it is on the disk, its record may be gone from here.
        redis.call('SADD', prefix .. 'held:' .. target, transaction)
        return
    end
    redis.call('SREM', prefix .. 'held:' .. target, transaction)
    if next and not redis.call('ZSCORE', prefix .. 'leased:' .. target, next) then
        redis.call('ZADD', prefix .. 'due:' .. target, 'NX', now, next)
    end
end

-- Tells from the field `ordered` of an event whether a target keeps it in a lane.
local function in_lane(target, ordered)
    return ordered and string.find(ordered, ',' .. target .. ',', 1, true)
end

-- Ends the first of a lane as a dead letter. If `hold`, it holds the rest; else the next one becomes due.
local function end_in_lane(target, id, transaction, hold)
    if hold then
        redis.call('SADD', prefix .. 'held:' .. target, transaction)
    else
        advance(target, id, transaction)
    end
end
