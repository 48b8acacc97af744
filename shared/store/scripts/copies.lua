-- Finds the first of a suppressed copy, and keeps the counts of a first's copies.
-- Included by scripts that admit. Reads duplicate:*; writes event:*, quarantined:*.
local CHAIN = 8  -- how many steps it follows, from a copy to a first that became a copy itself

-- Returns the first of a copy: if that became a copy itself, then the first of that, and so on. Returns `id` if it is
-- no copy.
local function first_of(id)
    for _ = 1, CHAIN do
        local of = redis.call('HGET', prefix .. 'duplicate:' .. id, 'of')
        if not of then
            return id
        end
        id = of
    end
    return id
end

-- Adds to the counts of copies in the record of their first: an event, or a request in quarantine.
local function count_copies(first, copies, differing)
    for _, key in ipairs({prefix .. 'event:' .. first, prefix .. 'quarantined:' .. first}) do
        if redis.call('EXISTS', key) == 1 then
            redis.call('HINCRBY', key, 'copies', copies)
            if differing ~= 0 then
                redis.call('HINCRBY', key, 'differing', differing)
            end
        end
    end
end
