-- Records which transactions are held by dead letters that an earlier version of Headrace made: it kept no record.
--   KEYS[1] hr:held:<target>   ARGV[1] target   then event ids
-- Reads hr:event:*, hr:lane:*. Returns how many transactions are new in hr:held:<target>.
-- Said twice: they are there.
-- include: lanes.lua
local target, found = ARGV[1], 0
for i = 2, #ARGV do
    local known = redis.call('HMGET', 'hr:event:' .. ARGV[i], 'ordered', 'transaction', 'end:' .. target)
    if in_lane(target, known[1]) and known[3] == 'dead'
        and redis.call('LINDEX', 'hr:lane:' .. target .. ':' .. known[2], 0) == ARGV[i] then
        found = found + redis.call('SADD', KEYS[1], known[2])
    end
end
return found
