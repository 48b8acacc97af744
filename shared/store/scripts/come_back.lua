-- Puts the record of an event back as it was when its last dead letter left for the disk, if it is gone since.
--   ARGV[1] event id   ARGV[2] how many attempts; then for each its field in hr:attempts:<id>, and its JSON
--   then fields and values of hr:event:<id>; `end:*` and `open` (0) are among them
-- Writes hr:event:*, hr:attempts:*, hr:finished, hr:transaction:*.
-- Returns 1 if it was gone. Said twice: it is there.
local id, attempts = ARGV[1], tonumber(ARGV[2])
local event = 'hr:event:' .. id
for i = 3, 2 + 2 * attempts, 2 do
    redis.call('HSETNX', 'hr:attempts:' .. id, ARGV[i], ARGV[i + 1])
end
if redis.call('EXISTS', event) == 1 then
    return 0
end
redis.call('HSET', event, unpack(ARGV, 3 + 2 * attempts))
local received = tonumber(string.sub(id, 5, 15), 16)
redis.call('ZADD', 'hr:finished', received, id)
local transaction = redis.call('HGET', event, 'transaction')
if transaction then
    redis.call('ZADD', 'hr:transaction:' .. transaction, received, id)
end
return 1
