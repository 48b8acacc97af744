-- Packs finished events: what never changes in one, and its attempts, become one compressed value.
--   ARGV: for each: event id, its fields `packed` and `erased` ('' if it has none), the packed value ('' if there is
--   nothing to pack), the latest token of its attempts (0 for none), how many attempts attempts:<id> has, and their
--   fields
-- Writes event:*, attempts:*, finished, packed. Returns how many were packed.
-- An event that is no longer finished, or has changed since it was read, is left as it is.
-- If repeated: it is no longer in `finished`.
local prefix = KEYS[#KEYS]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Redis keeps a hash in one block while no value in it is longer than 64 bytes, so the value is cut into pieces: with
-- one long value, the fields of the hash would take 700 bytes more together. Redis writes the length of a piece of 63
-- in one byte less than that of 64. A value of more than MOST pieces stays whole: there it no longer matters.
local PIECE, MOST = 63, 64
-- Lua passes at most a few thousand arguments, so an event that went to hundreds of targets stays as it is.
local MOST_FIELDS = 2000
local PACKED = {attributes = true, data = true, body = true, type = true, packed = true}

local function unchanged(id, before, erased, first, count)
    local event, attempts = prefix .. 'event:' .. id, prefix .. 'attempts:' .. id
    if not redis.call('ZSCORE', prefix .. 'finished', id)
        or (redis.call('HGET', event, 'packed') or '') ~= before
        or (redis.call('HGET', event, 'erased') or '') ~= erased
        or redis.call('HLEN', attempts) ~= count then
        return false
    end
    for i = first, first + count - 1 do
        if redis.call('HEXISTS', attempts, ARGV[i]) == 0 then
            return false
        end
    end
    return true
end

-- Returns 1 if the event is packed now.
local function pack(id, value, latest)
    local event, names, fields = prefix .. 'event:' .. id, {}, {}
    if value == '' or redis.call('HLEN', event) > MOST_FIELDS then
        return 0
    end
    for _, name in ipairs(redis.call('HKEYS', event)) do
        if not PACKED[name] and not tonumber(name) then
            names[#names + 1] = name
        end
    end
    for i, kept in ipairs(redis.call('HMGET', event, unpack(names))) do
        fields[2 * i - 1], fields[2 * i] = names[i], kept
    end
    -- No claim that was made before this has a later token.
    local n = #fields
    fields[n + 1], fields[n + 2] = 'packed', string.format('%d', math.max(now, latest))
    local size = #value > PIECE * MOST and #value or PIECE
    for at = 0, #value - 1, size do
        n = #fields
        fields[n + 1], fields[n + 2] = string.format('%d', at / size), string.sub(value, at + 1, at + size)
    end
    redis.call('DEL', event, prefix .. 'attempts:' .. id)
    redis.call('HSET', event, unpack(fields))
    return 1
end

local packed, i = 0, 1
while i <= #ARGV do
    local id, before, erased, value, latest, count = unpack(ARGV, i, i + 5)
    count = tonumber(count)
    if unchanged(id, before, erased, i + 6, count) then
        packed = packed + pack(id, value, tonumber(latest))
        redis.call('ZREM', prefix .. 'finished', id)
        redis.call('ZADD', prefix .. 'packed', tonumber(string.sub(id, 5, 15), 16), id)
    end
    i = i + 6 + count
end
return packed
