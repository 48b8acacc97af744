-- Begins a turn of admitting from a source whose events must stay in order, unless another has it.
--   KEYS[1] turn:<source>   KEYS[2] rung:<doorbell>
--   ARGV[1] who begins   ARGV[2] for how long, ms
-- Returns 1 if the turn was free, and lowers the flag; 0 if another holder has it. That one takes what comes
-- meanwhile, so the flag stays up.
-- If repeated: 0, until the turn ends.
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
    return 0
end
redis.call('DEL', KEYS[2])
return 1
