-- Takes one inbox entry that a worker took and never admitted, and counts the take.
--   KEYS[1] inbox:<source>   KEYS[2] alone:<source>
--   ARGV[1] group   ARGV[2] consumer   ARGV[3] how long it must have been pending, ms
-- Returns {entry id, fields, takes alone}, or nil if there is none.
-- If repeated: that entry was taken just now, so the second call takes another, or none.
while true do
    local left = redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[3], '-', '+', 1)
    if #left == 0 then
        return false
    end
    local id = left[1][1]
    local claimed = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], id)
    if claimed[1] then
        return {id, claimed[1][2], redis.call('HINCRBY', KEYS[2], id, 1)}
    end
    -- The entry is gone from the stream: Redis 6.2 returns nil and keeps it pending for ever.
    redis.call('XACK', KEYS[1], ARGV[1], id)
    redis.call('HDEL', KEYS[2], id)
end
