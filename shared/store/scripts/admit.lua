-- Admits requests from an inbox, all or nothing: each becomes an event, a duplicate, or goes to quarantine.
--   KEYS[1] inbox:<source>   KEYS[2] alone:<source>   KEYS[3] turn:<source>
--   ARGV[1] source   ARGV[2] dedupe window, ms   ARGV[3] resend window, ms   ARGV[4] retention of copies, ms (0: no end)
--   ARGV[5] group   ARGV[6] who must hold the source's turn ('' for nobody)   ARGV[7] how long the turn lasts then, ms
--   then for each request the arguments that admission.lua names; no other entry stands between theirs in the inbox
-- Writes KEYS[1..3], and the keys that admission.lua names. Returns the list of its `admit_all`; what is no longer in
-- the inbox is `gone`.
-- If repeated: each entry has left the inbox, so it is `gone`, and is not taken for a copy of itself.
local prefix = KEYS[#KEYS]
local HEAD = 7
local inbox, alone, turn = KEYS[1], KEYS[2], KEYS[3]
local source, window, resend, retention, group, fence, turn_ms = unpack(ARGV, 1, HEAD)
window, resend = tonumber(window), tonumber(resend)
local place = 'inbox'

-- A worker that lost its turn (it was suspended, say) must not admit: another one keeps the order now.
if fence ~= '' then
    if redis.call('GET', turn) ~= fence then
        return redis.error_reply('FENCED admit: the turn is over')
    end
    redis.call('PEXPIRE', turn, turn_ms)
end

-- The entries that were read, by id, and the ids of those that leave.
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
    -- Admission removes an entry: while it is there, nobody has admitted it.
    if not batch[entry] then
        read(entry, entry, 1)
    end
    local found = batch[entry]
    if not found then
        left[#left + 1] = entry  -- Redis 6.2 keeps a deleted entry pending for ever
        return nil
    end
    return field(found, 'body'), field(found, 'headers'), 0, 0
end

local function leave(entry)
    left[#left + 1] = entry
end

-- include: copies.lua
-- include: admission.lua

-- Nothing else stands between the entries of a batch, so one command reads them all.
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
