-- Ends a turn of admitting from a source before nothing is left, if it is its holder who says so.
--   KEYS[1] turn:<source>   KEYS[2] inbox:<source>
--   KEYS[3] rung:<doorbell>: its flag goes down, so that what comes from now on rings anew   ARGV[1] the holder
-- Returns how many entries are in the inbox: what came after the last look was nobody's to take.
-- If repeated: it has ended.
if redis.call('GET', KEYS[1]) == ARGV[1] then
    redis.call('DEL', KEYS[1], KEYS[3])
end
return redis.call('XLEN', KEYS[2])
