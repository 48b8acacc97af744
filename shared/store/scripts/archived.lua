-- Removes from Redis what is in the archive: finished events, and recorded duplicates.
--   ARGV: for each: event id, how many fields event:<id> has, how many attempts:<id> has, and how many fields follow;
--   then their names and values, as they were read. A duplicate has 0 for all three.
-- Writes event:*, attempts:*, duplicate:*, finished, packed, duplicates, transaction:*.
-- Returns for each 1 if it is removed, or was before. An event that is open again, or has changed since it was read,
-- stays: it is archived anew later.
-- If repeated: 1 again.
local prefix = KEYS[#KEYS]

local function remove_duplicate(id)
    redis.call('DEL', prefix .. 'duplicate:' .. id)
    redis.call('ZREM', prefix .. 'duplicates', id)
    return 1
end

local function unchanged(id, fields, attempts, first, count)
    local event = prefix .. 'event:' .. id
    if tonumber(redis.call('HGET', event, 'open') or -1) ~= 0
        or redis.call('HLEN', event) ~= fields
        or redis.call('HLEN', prefix .. 'attempts:' .. id) ~= attempts then
        return false
    end
    for i = first, first + 2 * count - 2, 2 do
        if redis.call('HGET', event, ARGV[i]) ~= ARGV[i + 1] then
            return false
        end
    end
    return true
end

local function remove_event(id)
    local event = prefix .. 'event:' .. id
    local transaction = redis.call('HGET', event, 'transaction')
    if transaction then
        redis.call('ZREM', prefix .. 'transaction:' .. transaction, id)  -- the last one takes the key along
    end
    redis.call('DEL', event, prefix .. 'attempts:' .. id)
    redis.call('ZREM', prefix .. 'finished', id)
    redis.call('ZREM', prefix .. 'packed', id)
end

local results, i = {}, 1
while i <= #ARGV do
    local id, fields, attempts, count = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
    if fields == 0 then
        results[#results + 1] = remove_duplicate(id)
    elseif redis.call('EXISTS', prefix .. 'event:' .. id) == 0 then
        results[#results + 1] = 1
    elseif unchanged(id, fields, attempts, i + 4, count) then
        remove_event(id)
        results[#results + 1] = 1
    else
        results[#results + 1] = 0
    end
    i = i + 4 + 2 * count
end
return results
