-- Makes copies of an event that waits for its first retry. Of each key that it has a copy gets one that holds the
-- same, but for the event's id and number; where the name is a digest, another of the same length.
--   ARGV[1] the event's id   ARGV[2] its number (ten digits)   ARGV[3] its source   ARGV[4] its target
--   ARGV[5] the copies' first number   ARGV[6] how many copies   ARGV[7], ARGV[8] when they are due: from, to; ms
-- Admission itself would take many minutes for a million. Said twice: writes the same again.
local id, number, source, target = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local from, span = tonumber(ARGV[7]), tonumber(ARGV[8]) - tonumber(ARGV[7])
local event, attempts = redis.call('HGETALL', 'hr:event:' .. id), redis.call('HGETALL', 'hr:attempts:' .. id)
local transaction = redis.call('HGET', 'hr:event:' .. id, 'transaction')
local received, tag = tonumber(string.sub(id, 5, 15), 16), string.sub(id, 16, 23)

for n = tonumber(ARGV[5]), tonumber(ARGV[5]) + tonumber(ARGV[6]) - 1 do
    -- Sixteen a millisecond, back from the event that is copied.
    local at = received - 1 - math.floor(n / 16)
    local copy = string.format('evt_%011x%s%x', at, tag, n % 16)
    local digest = redis.sha1hex(tostring(n))
    local indexed = string.sub(transaction, 1, -17) .. string.sub(digest, 1, 16)
    local fields = {}
    for i = 1, #event, 2 do
        local name, value = event[i], event[i + 1]
        if name == 'transaction' then
            value = indexed
        elseif #value > 32 then
            value = string.gsub(string.gsub(value, id, copy), number, string.format('%010d', n))
        end
        fields[i], fields[i + 1] = name, value
    end
    redis.call('HSET', 'hr:event:' .. copy, unpack(fields))
    redis.call('HSET', 'hr:attempts:' .. copy, unpack(attempts))
    local hash = 'hr:dedupe:' .. source .. ':0:' .. math.floor(n / 128)
    redis.call('HSET', hash, string.sub(digest, 1, 17), struct.pack('>I6', at) .. string.format('%x', n % 16))
    redis.call('PEXPIRE', hash, 86400000)
    redis.call('ZADD', 'hr:transaction:' .. indexed, at, copy)
    redis.call('ZADD', 'hr:open', at, copy)
    -- Retries are due in another order than that in which the events came.
    redis.call('ZADD', 'hr:due:' .. target, from + math.floor(span * (tonumber(string.sub(digest, 1, 8), 16) / 2^32)), copy)
end
