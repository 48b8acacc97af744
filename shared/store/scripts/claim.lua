-- Claims what is due for a target, oldest first, and leases it.
--   KEYS[1] hr:due:<target>   KEYS[2] hr:leased:<target>
--   ARGV[1] target   ARGV[2] how many at most   ARGV[3] the target's concurrency
--   ARGV[4] the lease, ms   ARGV[5] how many bytes at most (one entry is always taken)
-- Returns {now, token, more due now, when the next is due ('' for never), entries}, an entry being
-- {event id, failed attempts, attributes, data, body, content type}.
-- Said twice (the first reply lost): claims others; what the first call took comes back with its lease.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local token = now + tonumber(ARGV[4])
local room = math.min(tonumber(ARGV[2]), tonumber(ARGV[3]) - redis.call('ZCARD', KEYS[2]))
local bytes, entries = 0, {}

if room > 0 then
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, room)) do
        if bytes >= tonumber(ARGV[5]) then
            break
        end
        local event = redis.call('HMGET', 'hr:event:' .. id,
            'attributes', 'data', 'body', 'type', 'failed:' .. ARGV[1])
        redis.call('ZREM', KEYS[1], id)
        if event[1] then
            redis.call('ZADD', KEYS[2], token, id)
            bytes = bytes + #event[1] + #event[2] + #event[3]
            entries[#entries + 1] = {id, tonumber(event[5] or 0), event[1], event[2], event[3], event[4] or ''}
        end
    end
end

local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
return {now, token, redis.call('ZCOUNT', KEYS[1], '-inf', now), first[2] or '', entries}
