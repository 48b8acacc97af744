-- Rings a doorbell, unless one is outstanding or the queue is long already.
--   KEYS[1] hr:rung:<doorbell>   KEYS[2] Celery's queue
--   ARGV[1] the message   ARGV[2] how long the flag stands, ms   ARGV[3] the longest queue
-- Returns 1 where it rang. Said twice: the flag stands, nothing happens.
if redis.call('LLEN', KEYS[2]) >= tonumber(ARGV[3]) then
    return 0
end
if not redis.call('SET', KEYS[1], '1', 'NX', 'PX', ARGV[2]) then
    return 0
end
redis.call('LPUSH', KEYS[2], ARGV[1])
return 1
