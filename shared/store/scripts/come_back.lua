-- Restores the record of an event, if it is gone, as it was when its last dead letter was moved to the disk.
--   ARGV[1] event id   ARGV[2] how many attempts; then for each its field in attempts:<id>, and its value (JSON)
--   then fields and values of event:<id>, with `end:*` and `open` (0)
-- Writes event:*, attempts:*, finished, transaction:*.
-- Returns 1 if it was gone, else 0. If repeated: it is there, so 0.
local prefix = KEYS[#KEYS]
local id, attempts = ARGV[1], tonumber(ARGV[2])
local event = prefix .. 'event:' .. id
for i = 3, 2 + 2 * attempts, 2 do
    redis.call('HSETNX', prefix .. 'attempts:' .. id, ARGV[i], ARGV[i + 1])
end
if redis.call('EXISTS', event) == 1 then
    return 0
end
redis.call('HSET', event, unpack(ARGV, 3 + 2 * attempts))
local received = tonumber(string.sub(id, 5, 15), 16)
redis.call('ZADD', prefix .. 'finished', received, id)
local transaction = redis.call('HGET', event, 'transaction')
if transaction then
    redis.call('ZADD', prefix .. 'transaction:' .. transaction, received, id)
end
return 1
