-- Returns which version of the layout Redis's records have, and raises it to the one that the caller writes.
--   KEYS[1] layout   ARGV[1] the version that the caller writes, or 0 if it only looks
--   then the names of its sources
-- Writes layout. Returns the version before that; 0 if there are no records.
-- If repeated: the version is raised already. It is never lowered.
local prefix = KEYS[#KEYS]

-- Earlier versions of Headrace wrote no version, so the keys must tell it: from version 2 on, a source that sent
-- anything has tables of its dedupe keys.
local function shown()
    local records = redis.call('EXISTS', prefix .. 'open', prefix .. 'finished', prefix .. 'quarantine',
        prefix .. 'duplicates') > 0
    for i = 2, #ARGV do
        if redis.call('EXISTS', prefix .. 'dedupe:' .. ARGV[i]) == 1 then
            return 2
        end
        records = records or redis.call('EXISTS', prefix .. 'inbox:' .. ARGV[i]) == 1
    end
    return records and 1 or 0
end

local known = redis.call('GET', KEYS[1])
local before, written = tonumber(known or shown()), tonumber(ARGV[1])
if written > 0 and (not known or before < written) then
    redis.call('SET', KEYS[1], ARGV[1])
end
return before
