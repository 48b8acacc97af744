-- Finds where work waits, so that a sweep can ring there.
--   ARGV[1] group   ARGV[2] after how long a pending inbox entry is left behind, ms
--   ARGV[3] how many sources; then their names, then the targets'
-- Reads inbox:*, due:*, leased:*, held:*, target:*. Writes nothing.
-- Returns five lists: sources with work; targets with deliveries due that they may get now; targets with leases that
-- ran out; targets with deliveries due that are paused or disabled, as `<state> <name>`; ordered targets with
-- transactions that a dead letter holds.
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
        -- Admission acknowledges and removes an entry together, so one that is not pending was never taken.
        -- Without the group (an error here) none ever was.
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
        elseif not (target[2] and tonumber(target[2]) > now) then  -- not while its breaker is open
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
