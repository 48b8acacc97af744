-- Ends dead letters of a target for good. Their events keep only the end that is written.
--   ARGV[1] target   ARGV[2] the end to write: `discarded` (by hand) or `expired`
--   then for each: event id, and, if it is on disk, `ordered` and `transaction` of its event (else '')
-- Writes dead:*, lane:*, due:*, event:*, open, finished.
-- Returns for each `discarded`, `changed` (it is no longer a dead letter), or `gone` (its event has no record).
-- If repeated: `changed`.
local prefix = KEYS[#KEYS]
local target = ARGV[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- include: lanes.lua

local function discard(id, ordered, transaction)
    local event = prefix .. 'event:' .. id
    local known = redis.call('HMGET', event, 'open', 'ordered', 'transaction', 'end:' .. target)
    if not known[1] then
        redis.call('ZREM', prefix .. 'dead:' .. target, id)
        if in_lane(target, ordered) then
            advance(target, id, transaction)
        end
        return 'gone'
    elseif known[4] ~= 'dead' and known[4] ~= 'disk' then
        return 'changed'
    end
    redis.call('ZREM', prefix .. 'dead:' .. target, id)
    redis.call('HSET', event, 'end:' .. target, ARGV[2])
    -- The events of its transaction that it held go on.
    if in_lane(target, known[2]) then
        advance(target, id, known[3])
    end
    if known[4] == 'dead' and redis.call('HINCRBY', event, 'open', -1) == 0 then
        redis.call('ZREM', prefix .. 'open', id)
        redis.call('ZADD', prefix .. 'finished', tonumber(string.sub(id, 5, 15), 16), id)
    end
    return 'discarded'
end

local results = {}
for i = 3, #ARGV, 3 do
    results[#results + 1] = discard(ARGV[i], ARGV[i + 1], ARGV[i + 2])
end
return results
