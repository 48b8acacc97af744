-- Records which transactions are held by dead letters of an earlier version, which did not record it.
--   KEYS[1] held:<target>   ARGV[1] target   then event ids
-- Reads event:*, lane:*. Returns how many transactions are new in held:<target>.
-- If repeated: none is new.
local prefix = KEYS[#KEYS]

-- include: lanes.lua

local target, found = ARGV[1], 0
for i = 2, #ARGV do
    local known = redis.call('HMGET', prefix .. 'event:' .. ARGV[i], 'ordered', 'transaction', 'end:' .. target)
    if in_lane(target, known[1]) and known[3] == 'dead'
        and redis.call('LINDEX', prefix .. 'lane:' .. target .. ':' .. known[2], 0) == ARGV[i] then
        found = found + redis.call('SADD', KEYS[1], known[2])
    end
end
return found
