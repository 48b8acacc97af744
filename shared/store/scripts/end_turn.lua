-- Ends a turn of admitting from a source, if it is its holder who says so.
--   KEYS[1] hr:turn:<source>   ARGV[1] the holder
-- Returns 1 where it ended. Said twice: it has ended.
if redis.call('GET', KEYS[1]) == ARGV[1] then
    return redis.call('DEL', KEYS[1])
end
return 0
