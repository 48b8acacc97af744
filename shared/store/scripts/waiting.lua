-- Finds where work waits, so that a sweep rings there.
--   ARGV[1] group   ARGV[2] how long a taken inbox entry must lie to count as left behind, ms
--   ARGV[3] how many sources; then their names, then the targets'
-- Reads inbox:*, due:*, leased:*, held:*, target:*. Writes nothing.
-- Returns {sources with work, targets with something due that they may have now, targets with leases that ran
-- out, targets that get nothing: `<state> <name>`, the state being `paused` or `disabled`; ordered targets with
-- transactions that a dead letter holds}.
local prefix = KEYS[#KEYS]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local sources, due, lapsed, blocked, held = {}, {}, {}, {}, {}
local last = 3 + tonumber(ARGV[3])
for i = 4, last do
    local inbox = prefix .. 'inbox:' .. ARGV[i]
    local length = redis.call('XLEN', inbox)
    if length > 0 then
        local summary = redis.pcall('XPENDING', inbox, ARGV[1])
        -- Admission acknowledges and removes together, so what is not pending was never taken. Without
        -- the group (an error here) nothing ever was.
        if summary.err or length > summary[1]
            or #redis.call('XPENDING', inbox, ARGV[1], 'IDLE', ARGV[2], '-', '+', 1) > 0 then
            sources[#sources + 1] = ARGV[i]
        end
    end
end
for i = last + 1, #ARGV do
    if #redis.call('ZRANGEBYSCORE', prefix .. 'due:' .. ARGV[i], '-inf', now, 'LIMIT', 0, 1) > 0 then
        local target = redis.call('HMGET', prefix .. 'target:' .. ARGV[i], 'state', 'open_until')
        if target[1] then
            blocked[#blocked + 1] = target[1] .. ' ' .. ARGV[i]
        elseif not (target[2] and tonumber(target[2]) > now) then  -- else its breaker is open: it waits
            due[#due + 1] = ARGV[i]
        end
    end
    if #redis.call('ZRANGEBYSCORE', prefix .. 'leased:' .. ARGV[i], '-inf', now, 'LIMIT', 0, 1) > 0 then
        lapsed[#lapsed + 1] = ARGV[i]
    end
    if redis.call('EXISTS', prefix .. 'held:' .. ARGV[i]) == 1 then
        held[#held + 1] = ARGV[i]
    end
end
return {sources, due, lapsed, blocked, held}
