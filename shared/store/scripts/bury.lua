-- Makes dead letters of what has waited too long for a target that gets nothing.
--   KEYS[1] hr:due:<target>   KEYS[2] hr:dead:<target>
--   ARGV[1] target   ARGV[2] due before this ('+inf' for all), ms   ARGV[3] how many at most   ARGV[4] why
-- Writes hr:event:*, hr:attempts:*. Returns how many.
-- Said twice: what was buried waits no more.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local why = cjson.encode({n = 0, at_ms = now, duration_ms = 0, error = ARGV[4]})
local buried = 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[2], 'LIMIT', 0, ARGV[3])) do
    redis.call('ZREM', KEYS[1], id)
    if redis.call('EXISTS', 'hr:event:' .. id) == 1 then
        redis.call('ZADD', KEYS[2], now, id)
        redis.call('HSET', 'hr:event:' .. id, 'end:' .. ARGV[1], 'dead')
        redis.call('HSET', 'hr:attempts:' .. id, ARGV[1] .. ' ' .. now, why)
        buried = buried + 1
    end
end
return buried
