-- Drops all that is in Celery's queue, whatever it is.
--   KEYS[1] Celery's queue
-- Returns its type (`none` if nothing was there), and how many messages were in it if it is a list, else 0.
-- If repeated: drops what came since, if anything; lost doorbells are rung again.
local kind = redis.call('TYPE', KEYS[1]).ok
local length = kind == 'list' and redis.call('LLEN', KEYS[1]) or 0
redis.call('DEL', KEYS[1])
return {kind, length}
