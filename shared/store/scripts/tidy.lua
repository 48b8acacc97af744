-- Removes consumers of an inbox that are long idle and hold nothing.
--   KEYS[1] inbox:<source>   ARGV[1] group   ARGV[2] how long they must have been idle, ms
-- DELCONSUMER drops what is pending for good, so check and removal are one script.
-- Returns how many it removed. If repeated: they are gone.
local removed = 0
local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
if consumers.err then
    return 0
end
for _, consumer in ipairs(consumers) do
    local field = {}
    for i = 1, #consumer, 2 do
        field[consumer[i]] = consumer[i + 1]
    end
    if field['pending'] == 0 and field['idle'] >= tonumber(ARGV[2]) then
        redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], field['name'])
        removed = removed + 1
    end
end
return removed
