-- Makes dead letters of deliveries that wait for a target.
--   KEYS[1] due:<target>   KEYS[2] dead:<target>   KEYS[3] target:<target>
--   ARGV[1] target   ARGV[2] only those due before this ('+inf' for all), ms   ARGV[3] how many at most
--   ARGV[4] why, as a word and a sentence
--   ARGV[5] `hold` if a dead letter holds the rest of its transaction in an ordered target, else ''
--   ARGV[6] the state that the target must have ('' for any)
-- Writes event:*, lane:*, held:*. Returns how many it gave up.
-- If repeated: what was given up no longer waits.
local prefix = KEYS[#KEYS]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- include: lanes.lua

local target, given_up = ARGV[1], 0
if ARGV[6] ~= '' and redis.call('HGET', KEYS[3], 'state') ~= ARGV[6] then
    return 0
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[2], 'LIMIT', 0, ARGV[3])) do
    local event = prefix .. 'event:' .. id
    redis.call('ZREM', KEYS[1], id)
    local known = redis.call('HMGET', event, 'open', 'ordered', 'transaction')
    if known[1] then
        redis.call('ZADD', KEYS[2], now, id)
        redis.call('HSET', event, 'end:' .. target, 'dead', 'why:' .. target, ARGV[4])
        if in_lane(target, known[2]) then
            end_in_lane(target, id, known[3], ARGV[5] == 'hold')
        end
        given_up = given_up + 1
    end
end
return given_up
