-- Removes what retention no longer keeps, oldest first: a bounded number in one call.
--   ARGV[1] how many at most, of all kinds together
--   ARGV[2] removes finished events and recorded duplicates that were received before this (ms; '+inf' for any)
--   ARGV[3] removes dead letters that died before this, and requests in quarantine that were received before it (ms)
--   then target names
-- Removes an event from the index of its transaction (transaction:*), too.
-- An event that is open is never removed: only `finished` and `packed` are read, and an event gets there when its
-- `open` is 0. (A version that packs nothing leaves an event that it replays in `packed`, so `open` is read again.)
-- Returns {events, dead letters, quarantined, duplicates} removed.
-- If repeated: what was removed is gone.
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
            -- If it held the rest of its transaction, that goes on.
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

-- Finished events and duplicates share the memory, so the oldest of both goes first. Ids sort by receipt.
local PACKED, COPIES = 2, 3
local sets = {prefix .. 'finished', prefix .. 'packed', prefix .. 'duplicates'}
local ids, gone, garbage, events = {}, {}, {}, 0
for i, key in ipairs(sets) do
    ids[i], gone[i] = oldest(key, received_before), {}
end

local function remove_event(id, set)
    local known = redis.call('HMGET', prefix .. 'event:' .. id, 'open', 'transaction')
    if set == PACKED and tonumber(known[1] or 0) > 0 then
        return
    end
    if known[2] then
        redis.call('ZREM', prefix .. 'transaction:' .. known[2], id)  -- Redis deletes an empty key
    end
    garbage[#garbage + 1] = prefix .. 'event:' .. id
    garbage[#garbage + 1] = prefix .. 'attempts:' .. id
    events = events + 1
end

while left > 0 do
    local at
    for i in ipairs(sets) do
        local id, first = ids[i][#gone[i] + 1], at and ids[at][#gone[at] + 1]
        if id and (not first or id < first) then
            at = i
        end
    end
    if not at then
        break
    end
    local id = ids[at][#gone[at] + 1]
    gone[at][#gone[at] + 1] = id
    if at == COPIES then
        garbage[#garbage + 1] = prefix .. 'duplicate:' .. id
    else
        remove_event(id, at)
    end
    left = left - 1
end
if #garbage > 0 then
    redis.call('DEL', unpack(garbage))
end
for i, key in ipairs(sets) do
    if #gone[i] > 0 then
        redis.call('ZREM', key, unpack(gone[i]))
    end
end
return {events, dead, #unread, #gone[COPIES]}
