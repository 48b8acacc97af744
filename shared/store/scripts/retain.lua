-- Removes what retention no longer keeps, a little at a time, oldest first.
--   ARGV[1] finished events received before this go (ms; '+inf' for any)
--   ARGV[2] dead letters from before this go   ARGV[3] quarantine and duplicates received before these
--   ARGV[4] go   ARGV[5] how many of each at most   then target names
-- An event leaves the index of its transaction (hr:transaction:*) too.
-- An event with a delivery that is not done is never removed: only hr:finished is looked at, and only
-- a count of zero puts an event there. Returns {events, dead letters, quarantined, duplicates} removed.
-- Said twice: what went is gone.
local limit = ARGV[5]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- include: lanes.lua

local removed = {0, 0, 0, 0}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', 'hr:finished', '-inf', ARGV[1], 'LIMIT', 0, limit)) do
    local transaction = redis.call('HGET', 'hr:event:' .. id, 'transaction')
    if transaction then
        redis.call('ZREM', 'hr:transaction:' .. transaction, id)  -- the last one takes the key along
    end
    redis.call('DEL', 'hr:event:' .. id, 'hr:attempts:' .. id)
    redis.call('ZREM', 'hr:finished', id)
    removed[1] = removed[1] + 1
end
for i = 6, #ARGV do
    local dead = 'hr:dead:' .. ARGV[i]
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', dead, '-inf', ARGV[2], 'LIMIT', 0, limit)) do
        local event = 'hr:event:' .. id
        redis.call('ZREM', dead, id)
        if redis.call('HGET', event, 'end:' .. ARGV[i]) == 'dead' then
            redis.call('HSET', event, 'end:' .. ARGV[i], 'expired')
            local known = redis.call('HMGET', event, 'ordered', 'transaction')
            -- One that held the rest of its transaction holds it no more.
            if in_lane(ARGV[i], known[1]) then
                advance(ARGV[i], id, known[2])
            end
            if redis.call('HINCRBY', event, 'open', -1) == 0 then
                redis.call('ZREM', 'hr:open', id)
                redis.call('ZADD', 'hr:finished', tonumber(string.sub(id, 5, 15), 16), id)
            end
        end
        removed[2] = removed[2] + 1
    end
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', 'hr:quarantine', '-inf', ARGV[3], 'LIMIT', 0, limit)) do
    redis.call('DEL', 'hr:quarantined:' .. id)
    redis.call('ZREM', 'hr:quarantine', id)
    removed[3] = removed[3] + 1
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', 'hr:duplicates', '-inf', ARGV[4], 'LIMIT', 0, limit)) do
    redis.call('DEL', 'hr:duplicate:' .. id)
    redis.call('ZREM', 'hr:duplicates', id)
    removed[4] = removed[4] + 1
end
return removed
