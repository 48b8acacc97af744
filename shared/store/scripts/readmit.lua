-- Admits, by hand, requests that were held back: in quarantine, or as suppressed copies. All or nothing.
--   ARGV[1] source   ARGV[2] dedupe window, ms   ARGV[3] resend window, ms   ARGV[4] retention of events, ms
--   ARGV[5] where they stand: `quarantine`, or `duplicates` (these are admitted whatever they are copies of)
--   then for each request what admission.lua says
-- Writes what admission.lua says. Returns what `admit_all` there does. What is still unreadable stays where it is.
-- Said twice: a request is no longer where it stood, so it is `gone`.
local prefix = KEYS[#KEYS]
local HEAD = 5
local source, window, resend, retention, place = unpack(ARGV, 1, HEAD)
window, resend = tonumber(window), tonumber(resend)

-- include: copies.lua

-- By place: how a request is found there, and how it leaves.
local finds, leaves = {}, {}

function finds.quarantine(_, id)
    local kept = redis.call('HMGET', prefix .. 'quarantined:' .. id, 'body', 'headers', 'copies', 'differing')
    return kept[1] or nil, kept[2] or '', tonumber(kept[3] or 0), tonumber(kept[4] or 0)
end

function leaves.quarantine(_, id)
    redis.call('DEL', prefix .. 'quarantined:' .. id)
    redis.call('ZREM', prefix .. 'quarantine', id)
end

function finds.duplicates(_, id)
    local at, headers = id, redis.call('HGET', prefix .. 'duplicate:' .. id, 'headers') or ''
    for _ = 1, CHAIN do
        local copy = redis.call('HMGET', prefix .. 'duplicate:' .. at, 'of', 'body')
        if not copy[1] then
            return nil
        end
        at = copy[1]
        local body = copy[2] or redis.call('HGET', prefix .. 'event:' .. at, 'body')
            or redis.call('HGET', prefix .. 'quarantined:' .. at, 'body')
        if body then
            return body, headers, 0, 0
        end
    end
    return nil
end

function leaves.duplicates(_, id)
    count_copies(first_of(id), -1, redis.call('HGET', prefix .. 'duplicate:' .. id, 'differs') and -1 or 0)
    redis.call('DEL', prefix .. 'duplicate:' .. id)
    redis.call('ZREM', prefix .. 'duplicates', id)
end

local find, leave = finds[place], leaves[place]

-- include: admission.lua

return admit_all()
