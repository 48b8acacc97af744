-- Rings a doorbell, unless it is outstanding or the queue is long already.
--   KEYS[1] rung:<doorbell>   KEYS[2] Celery's queue
--   ARGV[1] the message   ARGV[2] how long the flag stands, ms   ARGV[3] the longest queue
-- Returns 1 if it rang, else 0. If repeated: the flag stands, so 0.
-- include: bell.lua
return ring(KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3])
