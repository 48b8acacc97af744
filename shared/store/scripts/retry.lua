-- Makes deliveries due now that wait for their next attempt, and with them the probe of an open breaker.
--   KEYS[1] due:<target>   KEYS[2] target:<target>   then ARGV: event ids
-- Returns how many were not due yet, and are now.
-- If repeated: they are due already.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local made_due = 0
for _, id in ipairs(ARGV) do
    local due = redis.call('ZSCORE', KEYS[1], id)
    if due and tonumber(due) > now then
        redis.call('ZADD', KEYS[1], 'XX', now, id)
        made_due = made_due + 1
    end
end
if #redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 1) > 0 then
    local open_until = redis.call('HGET', KEYS[2], 'open_until')
    if open_until and tonumber(open_until) > now then
        redis.call('HSET', KEYS[2], 'open_until', string.format('%.0f', now))
    end
end
return made_due
