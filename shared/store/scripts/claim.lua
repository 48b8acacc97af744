-- Claims what is due for a target, oldest first, and leases it: as much as its limits allow now.
--   KEYS[1] due:<target>   KEYS[2] leased:<target>   KEYS[3] target:<target>   KEYS[4] rate:<target>
--   ARGV[1] target   ARGV[2] how many at most   ARGV[3] the target's concurrency
--   ARGV[4] the lease, ms   ARGV[5] microseconds between two deliveries ('' for no rate)
--   ARGV[6] how many may go at once after a pause
-- Returns {now, token, how many more are due now, when to come back ('' for never), entries}. `entries` has three
-- values for each delivery: its event's id, how many attempts failed (nil: none), its age in ms (nil: no attempt was
-- made). It has no events: bodies that go through Lua cost more than all the rest, and the worker that admitted an
-- event still has it. Deleted events are claimed too: checking each would cost a look-up. Whoever reads the event
-- hands it back.
-- If repeated (the first reply was lost): claims others; what the first call claimed is due again when its lease ends.
local prefix = KEYS[#KEYS]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local token = now + tonumber(ARGV[4])
local concurrency = tonumber(ARGV[3])

-- A paused or disabled target gets nothing. If its breaker is open, it gets nothing until the probe is due, and then
-- one delivery at a time.
local target = redis.call('HMGET', KEYS[3], 'state', 'open_until')
if target[1] then
    return {now, token, 0, '', {}}
end
if target[2] then
    if tonumber(target[2]) > now then
        return {now, token, 0, target[2], {}}
    end
    concurrency = 1
end

local room = math.min(tonumber(ARGV[2]), concurrency - redis.call('ZCARD', KEYS[2]))

-- The rate, as one number: when the next delivery would be due if all came evenly (GCRA).
local micros = tonumber(time[1]) * 1000000 + tonumber(time[2])
local interval, next_slot = tonumber(ARGV[5]), 0
if interval then
    next_slot = math.max(tonumber(redis.call('GET', KEYS[4]) or 0), micros - interval * (tonumber(ARGV[6]) - 1))
    room = math.min(room, math.floor((micros - next_slot) / interval) + 1)
end

local entries, claimed = {}, {}
if room > 0 then
    claimed = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, room)
end
if #claimed > 0 then
    -- As text: Redis would convert a number for each of them.
    local failed, age, lease = 'failed:' .. ARGV[1], 'age:' .. ARGV[1], string.format('%d', token)
    local leased, n = {}, 0
    for i, id in ipairs(claimed) do
        local tried = redis.call('HMGET', prefix .. 'event:' .. id, failed, age)
        leased[2 * i - 1], leased[2 * i] = lease, id
        entries[n + 1], entries[n + 2], entries[n + 3] = id, tried[1], tried[2]
        n = n + 3
    end
    redis.call('ZREM', KEYS[1], unpack(claimed))
    redis.call('ZADD', KEYS[2], unpack(leased))
    if interval then
        next_slot = next_slot + interval * #claimed
        -- It expires when it limits nothing any more.
        redis.call('SET', KEYS[4], string.format('%.0f', next_slot), 'PX',
            math.ceil(math.max(next_slot - micros, 0) / 1000) + math.ceil(interval * tonumber(ARGV[6]) / 1000) + 1)
    end
end

local more = redis.call('ZCOUNT', KEYS[1], '-inf', now)
local back = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] or ''
if interval and more > 0 and next_slot > micros then
    -- What is due waits only for the rate, so a look before the next slot finds nothing.
    return {now, token, 0, string.format('%.0f', math.ceil(next_slot / 1000)), entries}
end
return {now, token, more, back, entries}
