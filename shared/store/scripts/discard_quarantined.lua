-- Discards requests in quarantine. Nothing is kept of them.
--   ARGV[1] the code that they must have ('' for any)   then their receipt ids
-- Writes quarantine, quarantined:*. Returns for each 1 if it was there, else 0.
-- If repeated: 0. The recorded copies of a request stay.
local prefix = KEYS[#KEYS]
local results = {}
for i = 2, #ARGV do
    local key = prefix .. 'quarantined:' .. ARGV[i]
    local code = redis.call('HGET', key, 'code')
    if code and (ARGV[1] == '' or code == ARGV[1]) then
        redis.call('DEL', key)
        redis.call('ZREM', prefix .. 'quarantine', ARGV[i])
        results[#results + 1] = 1
    else
        results[#results + 1] = 0
    end
end
return results
