-- Admits requests from an inbox, all or nothing: each becomes an event, a duplicate, or goes to quarantine.
--   KEYS[1] inbox:<source>   KEYS[2] alone:<source>   KEYS[3] turn:<source>
--   ARGV[1] source   ARGV[2] dedupe window, ms   ARGV[3] resend window, ms   ARGV[4] retention of events, ms
--   ARGV[5] group   ARGV[6] who must hold the source's turn ('' for nobody), and ARGV[7] for how long it holds it
--   then, ms
--   then for each request what admission.lua says; they are neighbours, as they were taken at once
-- Writes inbox:<source>, and what admission.lua says. Returns what `admit_all` there does; what is gone from
-- the inbox is `gone`.
-- If repeated: an entry is no longer where it stood, so it is `gone`, and no copy sees its own dedupe key.
local prefix = KEYS[#KEYS]
local HEAD = 7
local inbox, alone, turn = KEYS[1], KEYS[2], KEYS[3]
local source, window, resend, retention, group, fence, turn_ms = unpack(ARGV, 1, HEAD)
window, resend = tonumber(window), tonumber(resend)
local place = 'inbox'

-- Whoever lost its turn (it was suspended, say) must not admit what is another's to order.
if fence ~= '' then
    if redis.call('GET', turn) ~= fence then
        return redis.error_reply('FENCED admit: the turn is over')
    end
    redis.call('PEXPIRE', turn, turn_ms)
end

-- The entries read so far, by id, and those that leave.
local batch, left = {}, {}

local function read(first, last, count)
    for _, found in ipairs(redis.call('XRANGE', inbox, first, last, 'COUNT', count)) do
        batch[found[1]] = found[2]
    end
end

local function field(fields, name)
    for i = 1, #fields, 2 do
        if fields[i] == name then
            return fields[i + 1]
        end
    end
    return ''
end

local function find(entry)
    -- An entry leaves as it is admitted: while it is there, nobody has.
    if not batch[entry] then
        read(entry, entry, 1)
    end
    local found = batch[entry]
    if not found then
        left[#left + 1] = entry  -- Redis 6.2 keeps what was deleted pending for ever
        return nil
    end
    return field(found, 'body'), field(found, 'headers'), 0, 0
end

local function leave(entry)
    left[#left + 1] = entry
end

-- include: copies.lua
-- include: admission.lua

-- A batch was taken at once, so nothing else stands between its entries: one command reads them all.
if #ARGV > HEAD then
    read(ARGV[HEAD + 1 + ENTRY], ARGV[#ARGV - WIDTH + 1 + ENTRY], (#ARGV - HEAD) / WIDTH)
end
local results = admit_all()
if #left > 0 then
    redis.call('XACK', inbox, group, unpack(left))
    redis.call('XDEL', inbox, unpack(left))
    redis.call('HDEL', alone, unpack(left))
end
return results
