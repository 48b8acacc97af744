-- Settles claimed deliveries: done, to be tried again, dead, or handed back untried.
--   ARGV for each delivery: target, event id, token, outcome (`done`, `retry`, `dead`, `back`),
--   the delay before the next attempt in ms (`retry`; else ''), the attempt as JSON ('' for none)
-- Writes hr:leased:*, hr:due:*, hr:dead:*, hr:event:*, hr:attempts:*, hr:open, hr:finished.
-- Returns for each 1 where it changed something, else 0.
-- All but success need the claim's token; success always counts, once. So said twice, nothing changes:
-- the token is spent, or the end is written. The first write frees memory, which lets Redis finish a
-- script when it is full.
local WIDTH = 6
if #ARGV % WIDTH ~= 0 then
    return redis.error_reply('ERR settle: wrong arguments')
end
for i = 1, #ARGV, WIDTH do
    if not tonumber(ARGV[i + 2]) or (ARGV[i + 3] == 'retry' and not tonumber(ARGV[i + 4])) then
        return redis.error_reply('ERR settle: wrong delivery')
    end
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function settle(target, id, token, outcome, delay, attempt)
    local leased, due, event = 'hr:leased:' .. target, 'hr:due:' .. target, 'hr:event:' .. id
    local held = redis.call('ZSCORE', leased, id)
    local mine = held and tonumber(held) == tonumber(token)
    if not mine and outcome ~= 'done' then
        return 0
    end
    -- A success said again after its reply was lost: a replay may have come in between, and is another delivery.
    if not mine and redis.call('HEXISTS', 'hr:attempts:' .. id, target .. ' ' .. token) == 1 then
        return 0
    end
    redis.call('ZREM', leased, id)
    if redis.call('EXISTS', event) == 0 then
        return 0
    end
    if attempt ~= '' then
        redis.call('HSET', 'hr:attempts:' .. id, target .. ' ' .. token, attempt)
    end
    if outcome == 'back' then
        redis.call('ZADD', due, now, id)
    elseif outcome == 'retry' then
        redis.call('ZADD', due, now + tonumber(delay), id)
        redis.call('HINCRBY', event, 'failed:' .. target, 1)
    elseif outcome == 'dead' then
        redis.call('ZADD', 'hr:dead:' .. target, now, id)
        redis.call('HINCRBY', event, 'failed:' .. target, 1)
        redis.call('HSET', event, 'end:' .. target, 'dead')
    else
        redis.call('ZREM', due, id)
        redis.call('ZREM', 'hr:dead:' .. target, id)
        local before = redis.call('HGET', event, 'end:' .. target)
        if before == 'done' or before == 'expired' then
            return 0
        end
        redis.call('HSET', event, 'end:' .. target, 'done')
        if redis.call('HINCRBY', event, 'open', -1) == 0 then
            redis.call('ZREM', 'hr:open', id)
            redis.call('ZADD', 'hr:finished', tonumber(string.sub(id, 5, 15), 16), id)
        end
    end
    return 1
end

local results = {}
for i = 1, #ARGV, WIDTH do
    results[#results + 1] = settle(unpack(ARGV, i, i + WIDTH - 1))
end
return results
