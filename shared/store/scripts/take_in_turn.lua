-- Takes the oldest entries of an inbox, in their order, for the worker that has the source's turn.
-- If an entry was taken before and never admitted, takes that one alone, and counts it; else takes entries that nobody
-- has taken. If there are none, ends the turn.
--   KEYS[1] inbox:<source>   KEYS[2] alone:<source>   KEYS[3] turn:<source>
--   KEYS[4] rung:<doorbell>: deleted when the turn begins and when it ends, so that what comes then rings again
--   ARGV[1] group   ARGV[2] the consumer that all who admit in turn share
--   ARGV[3] how long an entry of another consumer must have been pending, ms   ARGV[4] how many at most
--   ARGV[5] the worker
--   ARGV[6] how long its turn lasts if it begins one now, ms ('' if it has begun one)
-- Returns {-1} if another has the turn, and takes what comes meanwhile. Else one list: how often the entry was taken
-- alone (0: the entries are new), then for each entry its id, body, and headers as JSON ('' for none). It is flat: each
-- list within a script's reply costs Redis a block and two writes of its own.
-- If repeated: takes the first of those entries alone, and counts it. If the first call began the turn, returns {-1}
-- until that turn is over.
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

local function flat(takes, entries)
    local reply = {takes}
    for _, entry in ipairs(entries) do
        local values = {body = '', headers = ''}
        for i = 1, #entry[2], 2 do
            values[entry[2][i]] = entry[2][i + 1]
        end
        local n = #reply
        reply[n + 1], reply[n + 2], reply[n + 3] = entry[1], values.body, values.headers
    end
    return reply
end

if ARGV[6] == '' then
    if redis.call('GET', KEYS[3]) ~= ARGV[5] then
        return {-1}
    end
elseif redis.call('SET', KEYS[3], ARGV[5], 'NX', 'PX', ARGV[6]) then
    redis.call('DEL', KEYS[4])
else
    return {-1}
end
while true do
    local id
    local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1])
    if pending.err then
        redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
    elseif pending[1] > 0 then
        id = oldest(redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]), nil)
        id = oldest(redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[3], '-', '+', 1), id)
    end
    if not id then
        local new = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', ARGV[4], 'STREAMS', KEYS[1], '>')
        if not new then
            redis.call('DEL', KEYS[3], KEYS[4])
            return {0}
        end
        return flat(0, new[1][2])
    end
    local claimed = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id)
    if claimed[1] then
        return flat(redis.call('HINCRBY', KEYS[2], id, 1), claimed)
    end
    -- The entry is gone from the stream: Redis 6.2 returns nil and keeps it pending for ever.
    redis.call('XACK', KEYS[1], ARGV[1], id)
    redis.call('HDEL', KEYS[2], id)
end
