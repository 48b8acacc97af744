-- Takes the oldest entry that was taken before and never admitted, for whoever admits in turn, and counts it.
--   KEYS[1] hr:inbox:<source>   KEYS[2] hr:alone:<source>
--   ARGV[1] group   ARGV[2] the consumer of all who admit in turn
--   ARGV[3] how long what another consumer holds must have lain, ms
-- Returns {entry id, fields, takes alone}, or nil where there is none.
-- Said twice: the same entry, counted twice.
local function oldest(rows, other)
    local row = rows[1]
    if not row or not other then
        return row and row[1] or other
    end
    local ms, seq = string.match(row[1], '^(%d+)%-(%d+)$')
    local other_ms, other_seq = string.match(other, '^(%d+)%-(%d+)$')
    ms, seq, other_ms, other_seq = tonumber(ms), tonumber(seq), tonumber(other_ms), tonumber(other_seq)
    local earlier = ms < other_ms or (ms == other_ms and seq < other_seq)
    return earlier and row[1] or other
end

while true do
    local id = oldest(redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]), nil)
    id = oldest(redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[3], '-', '+', 1), id)
    if not id then
        return false
    end
    local claimed = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id)
    if claimed[1] then
        return {id, claimed[1][2], redis.call('HINCRBY', KEYS[2], id, 1)}
    end
    -- The entry is gone from the stream: Redis 6.2 says nil and keeps it pending for ever.
    redis.call('XACK', KEYS[1], ARGV[1], id)
    redis.call('HDEL', KEYS[2], id)
end
