-- Suppressed copies: what each is a copy of, and what its first knows of them.
-- Included by scripts that admit. Reads duplicate:*; writes event:*, quarantined:*.
local CHAIN = 8  -- a copy of what became a copy itself: this deep at most

-- Returns what a copy is a copy of in the end, if its first became a copy itself.
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

-- Adds to what the first (an event, or a request in quarantine) knows of its suppressed copies.
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
