-- Removes from Redis deliveries of a target that are dead letters on disk from now on.
--   ARGV[1] target   ARGV[2] `hold` if a dead letter holds the rest of its transaction in an ordered target, else ''
--   then for each: event id, and when it became a dead letter, ms ('' for one that still waits)
-- Writes due:*, dead:*, lane:*, event:*, attempts:*, open, finished.
-- Returns for each `left`, `there` (it left before), `changed` (it is no longer that dead letter, or no longer waits),
-- or `gone` (Redis has no record of the event).
-- The caller has written the letter to the disk before. If repeated: `there`, or `gone` if retention removed the event.
local prefix = KEYS[#KEYS]
local target = ARGV[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- include: lanes.lua

local function waits(id, known)
    return redis.call('ZREM', prefix .. 'due:' .. target, id) == 1
        or (in_lane(target, known[2]) and not redis.call('ZSCORE', prefix .. 'leased:' .. target, id)
            and redis.call('LPOS', prefix .. 'lane:' .. target .. ':' .. known[3], id))
end

local function leave(id, died)
    local event = prefix .. 'event:' .. id
    local known = redis.call('HMGET', event, 'open', 'ordered', 'transaction', 'end:' .. target)
    if not known[1] then
        return 'gone'
    elseif known[4] == 'disk' then
        return 'there'
    elseif died == '' then
        if known[4] or not waits(id, known) then
            return 'changed'
        end
    elseif known[4] ~= 'dead'
        or tonumber(redis.call('ZSCORE', prefix .. 'dead:' .. target, id) or -1) ~= tonumber(died) then
        return 'changed'
    end
    redis.call('ZREM', prefix .. 'dead:' .. target, id)
    redis.call('HSET', event, 'end:' .. target, 'disk')
    redis.call('HDEL', event, 'failed:' .. target, 'lapsed:' .. target, 'why:' .. target, 'age:' .. target)
    for _, field in ipairs(redis.call('HKEYS', prefix .. 'attempts:' .. id)) do
        if string.sub(field, 1, #target + 1) == target .. ' ' then
            redis.call('HDEL', prefix .. 'attempts:' .. id, field)
        end
    end
    if in_lane(target, known[2]) then
        end_in_lane(target, id, known[3], ARGV[2] == 'hold')
    end
    if redis.call('HINCRBY', event, 'open', -1) == 0 then
        redis.call('ZREM', prefix .. 'open', id)
        redis.call('ZADD', prefix .. 'finished', tonumber(string.sub(id, 5, 15), 16), id)
    end
    return 'left'
end

local results = {}
for i = 3, #ARGV, 2 do
    results[#results + 1] = leave(ARGV[i], ARGV[i + 1])
end
return results
