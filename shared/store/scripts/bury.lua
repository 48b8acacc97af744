-- Makes dead letters of what has waited too long for a target that gets nothing.
--   KEYS[1] hr:due:<target>   KEYS[2] hr:dead:<target>
--   ARGV[1] target   ARGV[2] due before this ('+inf' for all), ms   ARGV[3] how many at most   ARGV[4] why
--   ARGV[5] `hold` where a dead letter holds the rest of its transaction in an ordered target, else ''
-- Writes hr:event:*, hr:attempts:*, hr:lane:*. Returns how many.
-- Said twice: what was buried waits no more.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- include: lanes.lua

local why = cjson.encode({n = 0, at_ms = now, duration_ms = 0, error = ARGV[4]})
local buried = 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[2], 'LIMIT', 0, ARGV[3])) do
    redis.call('ZREM', KEYS[1], id)
    local known = redis.call('HMGET', 'hr:event:' .. id, 'open', 'ordered', 'transaction')
    if known[1] then
        redis.call('ZADD', KEYS[2], now, id)
        redis.call('HSET', 'hr:event:' .. id, 'end:' .. ARGV[1], 'dead')
        redis.call('HSET', 'hr:attempts:' .. id, ARGV[1] .. ' ' .. now, why)
        if ARGV[5] ~= 'hold' and in_lane(ARGV[1], known[2]) then
            advance(ARGV[1], id, known[3])
        end
        buried = buried + 1
    end
end
return buried
