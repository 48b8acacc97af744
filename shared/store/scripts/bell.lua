-- Rings a doorbell, for the scripts that add work.
-- Included by them. Writes rung:<doorbell> and Celery's queue.

-- Rings, unless the doorbell is outstanding, or the queue is long already or is no list (then it is not ours, and the
-- workers drop it). Returns 1 if it rang, else 0.
--   rung: the key rung:<doorbell>   queue: the key of Celery's queue   message: what to put there
--   stands: how long the flag stands, ms   longest: the longest queue
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
