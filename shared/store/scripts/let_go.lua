-- Lets transactions go on that dead letters hold in an ordered target.
--   KEYS[1] held:<target>   ARGV[1] target   ARGV[2] how many at most
-- Writes lane:*, due:*. Returns how many it took from held:<target>; call again until that is 0.
-- If repeated: it takes the next ones.
local prefix = KEYS[#KEYS]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- include: lanes.lua

local target = ARGV[1]
local transactions = redis.call('SPOP', KEYS[1], ARGV[2])
for _, transaction in ipairs(transactions) do
    local first = redis.call('LINDEX', prefix .. 'lane:' .. target .. ':' .. transaction, 0)
    -- If the first has not ended, another process has replayed it meanwhile: it keeps its place.
    if first and (redis.call('HGET', prefix .. 'event:' .. first, 'end:' .. target)
        or redis.call('EXISTS', prefix .. 'event:' .. first) == 0) then
        advance(target, first, transaction)
    end
end
return #transactions
