-- Removes what retention no longer keeps, oldest first: a bounded number in one call.
--   ARGV[1] how many at most, of all kinds together
--   ARGV[2] finished events and recorded duplicates received before this go (ms; '+inf' for any)
--   ARGV[3] dead letters from before this, and quarantine received before this, go   then target names
-- An event leaves the index of its transaction (transaction:*) too.
-- An event with a delivery that is not done is never removed: only `finished` is looked at, and only
-- a count of zero puts an event there. Returns {events, dead letters, quarantined, duplicates} removed.
-- Said twice: what went is gone.
local prefix = KEYS[#KEYS]
local left, received_before, dead_before = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- include: lanes.lua

local function oldest(key, before)
    return left > 0 and redis.call('ZRANGEBYSCORE', key, '-inf', before, 'LIMIT', 0, left) or {}
end

local dead = 0
for i = 4, #ARGV do
    local letters, target = prefix .. 'dead:' .. ARGV[i], ARGV[i]
    for _, id in ipairs(oldest(letters, dead_before)) do
        local event = prefix .. 'event:' .. id
        redis.call('ZREM', letters, id)
        if redis.call('HGET', event, 'end:' .. target) == 'dead' then
            redis.call('HSET', event, 'end:' .. target, 'expired')
            local known = redis.call('HMGET', event, 'ordered', 'transaction')
            -- One that held the rest of its transaction holds it no more.
            if in_lane(target, known[1]) then
                advance(target, id, known[2])
            end
            if redis.call('HINCRBY', event, 'open', -1) == 0 then
                redis.call('ZREM', prefix .. 'open', id)
                redis.call('ZADD', prefix .. 'finished', tonumber(string.sub(id, 5, 15), 16), id)
            end
        end
        dead, left = dead + 1, left - 1
    end
end

local unread, unread_keys = oldest(prefix .. 'quarantine', dead_before), {}
left = left - #unread
for i, id in ipairs(unread) do
    unread_keys[i] = prefix .. 'quarantined:' .. id
end
if #unread > 0 then
    redis.call('DEL', unpack(unread_keys))
    redis.call('ZREM', prefix .. 'quarantine', unpack(unread))
end

-- Finished events and duplicates fill the same memory: the oldest goes first, whichever it is. Ids sort by receipt.
local finished, copies = oldest(prefix .. 'finished', received_before), oldest(prefix .. 'duplicates', received_before)
local events, duplicates, garbage = {}, {}, {}
while left > 0 do
    local event, copy = finished[#events + 1], copies[#duplicates + 1]
    if event and (not copy or event < copy) then
        events[#events + 1] = event
        local transaction = redis.call('HGET', prefix .. 'event:' .. event, 'transaction')
        if transaction then
            redis.call('ZREM', prefix .. 'transaction:' .. transaction, event)  -- the last one takes the key along
        end
        garbage[#garbage + 1] = prefix .. 'event:' .. event
        garbage[#garbage + 1] = prefix .. 'attempts:' .. event
    elseif copy then
        duplicates[#duplicates + 1] = copy
        garbage[#garbage + 1] = prefix .. 'duplicate:' .. copy
    else
        break
    end
    left = left - 1
end
if #garbage > 0 then
    redis.call('DEL', unpack(garbage))
end
if #events > 0 then
    redis.call('ZREM', prefix .. 'finished', unpack(events))
end
if #duplicates > 0 then
    redis.call('ZREM', prefix .. 'duplicates', unpack(duplicates))
end
return {#events, dead, #unread, #duplicates}
