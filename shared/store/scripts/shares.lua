-- Estimates the memory that open events take, by target, and that quarantine and duplicates take, by source.
--   ARGV[1] how many members of each set to measure; each of the others counts as their average
-- Reads open, event:*, attempts:*, quarantine, quarantined:*, duplicates, duplicate:*.
-- Writes nothing. Returns {target, bytes, …}, and {source, bytes, …} of quarantine and of duplicates.
-- An event is in `open` while any delivery of it waits, stands in a lane, or is a dead letter: one set has them all.
local prefix = KEYS[#KEYS]
local ENTRY = 160  -- about what a member of two sorted sets takes, bytes

local function bytes_of(key)
    -- SAMPLES 0: all fields. The default, five fields, may miss the one with the body.
    return redis.call('MEMORY', 'USAGE', key, 'SAMPLES', 0) or 0
end

local function sampled(set, look)
    local ids = redis.call('ZRANDMEMBER', set, ARGV[1])
    local sums, reply = {}, {}
    for _, id in ipairs(ids) do
        look(id, sums)
    end
    local each = redis.call('ZCARD', set) / math.max(#ids, 1)
    for name, bytes in pairs(sums) do
        local n = #reply
        reply[n + 1], reply[n + 2] = name, math.floor(bytes * each)
    end
    return reply
end

local targets = sampled(prefix .. 'open', function(id, sums)
    local event = prefix .. 'event:' .. id
    local names = redis.call('HGET', event, 'targets')
    if names then
        local bytes = bytes_of(event) + bytes_of(prefix .. 'attempts:' .. id) + ENTRY
        for name in string.gmatch(names, '[^,]+') do
            local ended = redis.call('HGET', event, 'end:' .. name)
            if not ended or ended == 'dead' then
                sums[name] = (sums[name] or 0) + bytes
            end
        end
    end
end)

local function of_source(records)
    return function(id, sums)
        local source = redis.call('HGET', records .. id, 'source')
        if source then
            sums[source] = (sums[source] or 0) + bytes_of(records .. id) + ENTRY
        end
    end
end

return {targets, sampled(prefix .. 'quarantine', of_source(prefix .. 'quarantined:')),
    sampled(prefix .. 'duplicates', of_source(prefix .. 'duplicate:'))}
