-- Takes the lease on a duty, or renews it, unless another worker has it.
--   KEYS[1] duty:<duty>:<names>   ARGV[1] who wants it   ARGV[2] the lease, ms
-- Writes that key. Returns 1 if that worker has it now, else 0. If repeated: it is renewed.
local holder = redis.call('GET', KEYS[1])
if not holder then
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
elseif holder == ARGV[1] then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
else
    return 0
end
return 1
