-- Admits by hand requests in quarantine, or suppressed copies, all or nothing.
--   ARGV[1] source   ARGV[2] dedupe window, ms   ARGV[3] resend window, ms   ARGV[4] retention of copies, ms (0: no end)
--   ARGV[5] where they stand: `quarantine`, or `duplicates` (admitted though they are copies)
--   ARGV[6] how many bodies; then for each the id of its request, and the body (for copies only)
--   then for each request the arguments that admission.lua names
-- Writes the keys that admission.lua names. Returns the list of its `admit_all`. What is still unreadable stays where
-- it is.
-- If repeated: each request has left its place, so it is `gone`.
local prefix = KEYS[#KEYS]
local source, window, resend, retention, place, count = unpack(ARGV, 1, 6)
window, resend = tonumber(window), tonumber(resend)
local HEAD = 6 + 2 * (tonumber(count) or 0)

-- By id. A copy may have no body of its own, and that of its first may be packed: a script cannot read that.
local bodies = {}
for i = 7, HEAD, 2 do
    bodies[ARGV[i]] = ARGV[i + 1]
end

-- include: copies.lua

-- By place: `find` and `leave` for admission.lua.
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
    local copy = prefix .. 'duplicate:' .. id
    local differs = redis.call('HEXISTS', copy, 'differs') == 1
    -- If its first was gone when it came (it keeps its body then), no count has it; and the first may be back.
    if differs or redis.call('HEXISTS', copy, 'body') == 0 then
        count_copies(first_of(id), -1, differs and -1 or 0)
    end
    redis.call('DEL', prefix .. 'duplicate:' .. id)
    redis.call('ZREM', prefix .. 'duplicates', id)
end

local find, leave = finds[place], leaves[place]

-- include: admission.lua

return admit_all()
