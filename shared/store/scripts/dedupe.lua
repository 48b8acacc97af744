-- Keeps which event holds each dedupe key, in small hashes, which Redis packs (see shared/store/keys.py).
-- Included by admission.lua, which sets `source`, `tag`, `window` and `now` before (the last two are numbers: ms).
-- Writes dedupe:<source> and dedupe:<source>:*.
--
-- A key in a packed hash takes about 33 bytes; as a Redis key of its own it took 136. A table is a number of hashes:
-- the digest of a key decides in which of them it is. When hashes grow long, a table with more hashes begins, and the
-- one before is only read, until the window of its last key has passed. A key whose window has passed stays for up to
-- a third of a window more: then its hash is cleared of such keys, or expires.
local FIRST_BITS, MORE_BITS, MOST_BITS = 10, 2, 24  -- a table has 2^bits hashes
local LONG = 192  -- keys in a hash; Redis packs up to 512 (hash-max-listpack-entries)
local LATE = 1000  -- ms from receipt to admission; a shorter time is not kept
local DAY = 86400000
local AT_ONCE = 1000  -- keys cleared in one call; a packed hash has fewer, but a sender's ids can make one grow
local FEW = 10000  -- how many keys Redis may have to be searched in one call
local span = math.ceil(window / 3)
local HEX = string.rep('%02x', 16)

local directory = prefix .. 'dedupe:' .. source
local tables = {}  -- the newest first
-- Until this time there may be keys of an earlier version, each a Redis string. It includes a day for a fleet of both
-- versions.
local old_until

local function keep_tables()
    local rows = {string.format('%d', old_until)}
    for _, known in ipairs(tables) do
        rows[#rows + 1] = string.format('%d:%d:%d', known.number, known.bits, known.ends)
    end
    redis.call('SET', directory, table.concat(rows, ' '))
end

-- Adds a table, at place `at`. It is read until `ends`; the newest has no end yet: 0.
local function add_table(number, bits, ends, at)
    local stem = directory .. ':' .. number .. ':'
    table.insert(tables, at, {number = number, bits = bits, ends = ends, hashes = 2 ^ bits, stem = stem})
end

-- Tells whether there may be keys of an earlier version. A new Redis has none.
local function may_be_old()
    local cursor, found = '0', {}
    if redis.call('DBSIZE') > FEW then
        return true
    end
    repeat
        cursor, found = unpack(redis.call('SCAN', cursor, 'MATCH', directory .. ':*', 'COUNT', 1000))
    until cursor == '0' or #found > 0
    return #found > 0
end

local function read_tables()
    local known = redis.call('GET', directory)
    if not known then
        old_until = may_be_old() and now + window + DAY or 0
        add_table(1, FIRST_BITS, 0, 1)
        keep_tables()
        return
    end
    old_until = tonumber(string.match(known, '^%d+'))
    for number, bits, ends in string.gmatch(known, '(%d+):(%d+):(%d+)') do
        if ends == '0' or tonumber(ends) > now then
            add_table(tonumber(number), tonumber(bits), tonumber(ends), #tables + 1)
        end
    end
end

read_tables()

local function grow()
    local full = tables[1]
    full.ends = now + window + span
    add_table(full.number + 1, math.min(full.bits + MORE_BITS, MOST_BITS), 0, 1)
    keep_tables()
end

-- Returns an id as it is kept: its milliseconds, its last part, and, if it was admitted late, by how many milliseconds.
local function pack(id)
    local received = tonumber(string.sub(id, 5, 15), 16)
    local late = now - received
    return struct.pack('>I6', received) .. string.sub(id, 24)
        .. (late >= LATE and string.format('+%x', late) or '')
end

-- Returns the time of receipt, the time since which the key is held (both in ms), and the id's last part.
local function unpack_id(packed)
    local received = struct.unpack('>I6', packed)
    local last, late = string.match(packed, '^(%x+)%+?(%x*)$', 7)
    return received, received + (late ~= '' and tonumber(late, 16) or 0), last
end

-- Returns the id that is packed if its event still holds the key for a request that was received at `received`: if its
-- admission is less than a window ago, and its receipt less than `within` ms before `received`. Else nil.
local function holds(packed, received, within)
    local of, since, last = unpack_id(packed)
    if received < of + within and now < since + window then
        return string.format('evt_%011x', of) .. tag .. last
    end
    return nil
end

local function old_holder(key, received, within)
    local digest = string.format(HEX, string.byte(key, 2, 17))
    local counted = string.sub(key, 18)
    local name = directory .. ':' .. string.sub(key, 1, 1) .. digest .. (counted == '' and '' or ':' .. counted)
    local id = redis.call('GET', name)
    return id and received < tonumber(string.sub(id, 5, 15), 16) + within and id or nil
end

-- Keeps the hash of a new key for a window from now, clears it of old keys, and begins a new table if it is long.
local function tend(hash, key)
    local left = redis.call('PTTL', hash)
    if left < window or left > 2 * window then
        local stale, fields = {}, left > 0 and redis.call('HGETALL', hash) or {}
        for i = 1, #fields, 2 do
            local _, since = unpack_id(fields[i + 1])
            if now >= since + window and #stale < AT_ONCE then
                stale[#stale + 1] = fields[i]
            end
        end
        if #stale > 0 then
            redis.call('HDEL', hash, unpack(stale))
        end
        redis.call('PEXPIRE', hash, window + span)
    end
    -- One key in sixteen checks the length: that is enough.
    if string.byte(key, 17) < 16 and tables[1].bits < MOST_BITS and redis.call('HLEN', hash) > LONG then
        grow()
    end
end

-- Makes an event hold a key. If an event holds it already (see `holds`), returns the id of that one instead; else nil.
local function hold(key, id, received, within)
    local high, middle, low = string.byte(key, 2, 4)
    local place = (high * 256 + middle) * 256 + low
    for i = 2, #tables do
        local packed = redis.call('HGET', tables[i].stem .. place % tables[i].hashes, key)
        local holder = packed and holds(packed, received, within)
        if holder then
            return holder
        end
    end
    local holder = now < old_until and old_holder(key, received, within)
    if holder then
        return holder
    end
    local hash = tables[1].stem .. place % tables[1].hashes
    local packed = pack(id)
    if redis.call('HSETNX', hash, key, packed) == 0 then
        holder = holds(redis.call('HGET', hash, key), received, within)
        if holder then
            return holder
        end
        redis.call('HSET', hash, key, packed)
    end
    tend(hash, key)
    return nil
end
