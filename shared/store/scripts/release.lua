-- Puts back what a dead worker claimed: if a lease ran out, the delivery is due at once, and no attempt is charged.
--   KEYS[1] leased:<target>   KEYS[2] due:<target>
--   ARGV[1] target   ARGV[2] how many at most   ARGV[3] N: each Nth lapse of a delivery is charged
--   ARGV[4] a new lease, ms
-- Writes event:*.
-- Returns {how many are due again, those to charge as {event id, failed attempts, age in ms, token}}: these are leased
-- again, for the caller to settle as a failed attempt.
-- If repeated: what was put back is no longer leased.
local prefix = KEYS[#KEYS]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local back, spent = 0, {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[2])) do
    local event = prefix .. 'event:' .. id
    redis.call('ZREM', KEYS[1], id)
    if redis.call('EXISTS', event) == 1 then
        local lapsed = redis.call('HINCRBY', event, 'lapsed:' .. ARGV[1], 1)
        if lapsed % tonumber(ARGV[3]) == 0 then
            local token = now + tonumber(ARGV[4])
            redis.call('ZADD', KEYS[1], token, id)
            local known = redis.call('HMGET', event, 'failed:' .. ARGV[1], 'age:' .. ARGV[1])
            spent[#spent + 1] = {id, tonumber(known[1] or 0), tonumber(known[2] or 0), token}
        else
            redis.call('ZADD', KEYS[2], now, id)
            back = back + 1
        end
    end
end
return {back, spent}
