-- Ends a worker's turn of admitting from a source, if it has the turn, though entries may be left.
--   KEYS[1] turn:<source>   KEYS[2] inbox:<source>   ARGV[1] the worker
--   KEYS[3] rung:<doorbell>: deleted, so that what comes from now on rings again
-- Returns how many entries are in the inbox: what came since the worker's last look may have rung in vain.
-- If repeated: the turn has ended.
if redis.call('GET', KEYS[1]) == ARGV[1] then
    redis.call('DEL', KEYS[1], KEYS[3])
end
return redis.call('XLEN', KEYS[2])
