-- Lanes: in an ordered target one transaction's events stand in a list, and only its first is due or leased.
-- Included by scripts that end deliveries; they have set `now`, Redis's time in ms, before.
-- Writes hr:lane:*, hr:due:*.

-- Takes an event that has ended out of its lane; the one that is first there now is due.
local function advance(target, id, transaction)
    local lane = 'hr:lane:' .. target .. ':' .. transaction
    redis.call('LREM', lane, 1, id)
    local next = redis.call('LINDEX', lane, 0)
    if next and not redis.call('ZSCORE', 'hr:leased:' .. target, next)
        and not redis.call('HGET', 'hr:event:' .. next, 'end:' .. target) then
        redis.call('ZADD', 'hr:due:' .. target, 'NX', now, next)
    end
end

-- Tells whether an event, by its field `ordered`, stands in a lane of a target.
local function in_lane(target, ordered)
    return ordered and string.find(ordered, ',' .. target .. ',', 1, true)
end
