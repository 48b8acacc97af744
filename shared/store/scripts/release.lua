-- Puts back what a dead worker had claimed: leases that ran out become due at once, uncharged.
--   KEYS[1] leased:<target>   KEYS[2] due:<target>
--   ARGV[1] target   ARGV[2] how many at most   ARGV[3] how often a lease may run out uncharged
--   ARGV[4] a new lease, ms
-- Writes event:*.
-- Returns {how many came back, those past ARGV[3] as {event id, failed attempts, age in ms, token}}: these are
-- leased anew, for the caller to settle as a failed attempt.
-- If repeated: what was handed back is no longer leased.
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
