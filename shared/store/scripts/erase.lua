-- Replaces what events hold of a person by what is left of it.
--   ARGV[1] `discard` to discard the deliveries that wait, '' to leave an event alone while one of its deliveries waits
--   then for each: event id, its field `packed` ('' if it has none), how many fields event:<id> has, how many
--   attempts:<id> has; the new attributes, data and body; how many attempts there are, then their fields and values
-- Writes event:*, attempts:*, due:*, lane:*, held:*, open, finished, packed.
-- Returns for each `erased`, `waits` (left alone), `leased` (a delivery is under way: try again), `changed` (since it
-- was read: read it again), or `gone`.
-- If repeated: `changed` or `erased`, with the same fields.
local prefix = KEYS[#KEYS]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- include: lanes.lua

-- Returns the targets whose deliveries have not ended, and whether one of them is under way.
local function waiting(id, targets)
    local found, leased = {}, false
    for target in string.gmatch(targets or '', '[^,]+') do
        if not redis.call('HGET', prefix .. 'event:' .. id, 'end:' .. target) then
            found[#found + 1] = target
            leased = leased or redis.call('ZSCORE', prefix .. 'leased:' .. target, id)
        end
    end
    return found, leased
end

local function discard(id, targets, ordered, transaction)
    local event = prefix .. 'event:' .. id
    for _, target in ipairs(targets) do
        redis.call('ZREM', prefix .. 'due:' .. target, id)
        redis.call('HSET', event, 'end:' .. target, 'discarded')
        if in_lane(target, ordered) then
            advance(target, id, transaction)
        end
    end
    if #targets > 0 and redis.call('HINCRBY', event, 'open', -#targets) == 0 then
        redis.call('ZREM', prefix .. 'open', id)
        redis.call('ZADD', prefix .. 'finished', tonumber(string.sub(id, 5, 15), 16), id)
    end
end

local function replace(id, first, count)
    local event, attempts = prefix .. 'event:' .. id, prefix .. 'attempts:' .. id
    for _, name in ipairs(redis.call('HKEYS', event)) do
        if name == 'packed' or name == 'type' or tonumber(name) then
            redis.call('HDEL', event, name)
        end
    end
    -- `erased` tells the scripts that pack and archive events that what they were given was read before.
    redis.call('HSET', event, 'attributes', ARGV[first], 'data', ARGV[first + 1], 'body', ARGV[first + 2], 'erased', now)
    redis.call('DEL', attempts)
    for i = first + 4, first + 2 + 2 * count, 2 do
        redis.call('HSET', attempts, ARGV[i], ARGV[i + 1])
    end
    -- It is packed anew later.
    if redis.call('ZREM', prefix .. 'packed', id) == 1 then
        redis.call('ZADD', prefix .. 'finished', tonumber(string.sub(id, 5, 15), 16), id)
    end
end

local function erase(id, packed, fields, attempts, first, count)
    local event = prefix .. 'event:' .. id
    local known = redis.call('HMGET', event, 'open', 'targets', 'ordered', 'transaction', 'packed')
    if not known[1] then
        return 'gone'
    end
    local targets, leased = waiting(id, known[2])
    if #targets > 0 and ARGV[1] ~= 'discard' then
        return 'waits'
    elseif leased then
        return 'leased'
    elseif (known[5] or '') ~= packed or redis.call('HLEN', event) ~= fields
        or redis.call('HLEN', prefix .. 'attempts:' .. id) ~= attempts then
        return 'changed'
    end
    replace(id, first, count)
    discard(id, targets, known[3], known[4])
    return 'erased'
end

local results, i = {}, 2
while i <= #ARGV do
    local count = tonumber(ARGV[i + 7])
    results[#results + 1] =
        erase(ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3]), i + 4, count)
    i = i + 8 + 2 * count
end
return results
