-- Doorbells, as scripts that put work somewhere ring them.
-- Included; touches rung:<doorbell> and Celery's queue.

-- Rings, unless one is outstanding or the queue is long already, or is no list (a stranger's: the workers drop
-- it). Returns 1 if it rang.
--   rung: rung:<doorbell>   queue: Celery's   message   stands: how long the flag does, ms   longest: queue
local function ring(rung, queue, message, stands, longest)
    local length = redis.pcall('LLEN', queue)
    if type(length) ~= 'number' or length >= tonumber(longest) then
        return 0
    end
    if not redis.call('SET', rung, '1', 'NX', 'PX', stands) then
        return 0
    end
    redis.call('LPUSH', queue, message)
    return 1
end
