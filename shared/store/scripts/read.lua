-- Reads all that is held of events: the first of them, as many as take so many bytes together, and one at least.
--   ARGV[1] how many bytes   then event ids
-- Writes nothing. Returns for each of these events the fields of event:<id> and those of attempts:<id>, with their
-- values; both are empty if it is gone.
-- If repeated: the same, if nothing has changed.
local prefix = KEYS[#KEYS]
local left, results = tonumber(ARGV[1]), {}
for i = 2, #ARGV do
    local fields = redis.call('HGETALL', prefix .. 'event:' .. ARGV[i])
    for _, value in ipairs(fields) do
        left = left - #value
    end
    if left < 0 and i > 2 then
        break
    end
    results[#results + 1] = fields
    results[#results + 1] = redis.call('HGETALL', prefix .. 'attempts:' .. ARGV[i])
end
return results
