-- Admits, by hand, requests that were held back: in quarantine, or as suppressed copies. All or nothing.
--   ARGV[1] source   ARGV[2] dedupe window, ms   ARGV[3] resend window, ms   ARGV[4] retention of events, ms
--   ARGV[5] where they stand: `quarantine`, or `duplicates` (these are admitted whatever they are copies of)
--   ARGV[6] how many bodies; then for each the id of its request, and the body: of copies, which need not keep one
--   then for each request what admission.lua says
-- Writes what admission.lua says. Returns what `admit_all` there does. What is still unreadable stays where it is.
-- If repeated: a request is no longer where it stood, so it is `gone`.
local prefix = KEYS[#KEYS]
local source, window, resend, retention, place, count = unpack(ARGV, 1, 6)
window, resend = tonumber(window), tonumber(resend)
local HEAD = 6 + 2 * (tonumber(count) or 0)

-- By id. The first's own may be packed, which a script cannot read.
local bodies = {}
for i = 7, HEAD, 2 do
    bodies[ARGV[i]] = ARGV[i + 1]
end

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
    local copy = redis.call('HMGET', prefix .. 'duplicate:' .. id, 'of', 'headers')
    if not copy[1] then
        return nil
    end
    return bodies[id], copy[2] or '', 0, 0
end

function leaves.duplicates(_, id)
    count_copies(first_of(id), -1, redis.call('HGET', prefix .. 'duplicate:' .. id, 'differs') and -1 or 0)
    redis.call('DEL', prefix .. 'duplicate:' .. id)
    redis.call('ZREM', prefix .. 'duplicates', id)
end

local find, leave = finds[place], leaves[place]

-- include: admission.lua

return admit_all()
