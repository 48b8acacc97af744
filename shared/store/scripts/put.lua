-- Puts requests of one source into its inbox, and rings the doorbell.
--   KEYS[1] inbox:<source>   KEYS[2] rung:<doorbell>   KEYS[3] Celery's queue
--   ARGV[1] the doorbell's message   ARGV[2] how long its flag stands, ms   ARGV[3] the longest queue
--   then for each request: body, headers as JSON ('' for none)
-- Returns for each request the id of its entry, or the error of Redis if it refused it.
-- If repeated: the requests are there twice, as if the provider had sent them again; admission suppresses copies.
-- include: bell.lua
local replies, stored = {}, false
for i = 4, #ARGV, 2 do
    local reply
    if ARGV[i + 1] == '' then
        reply = redis.pcall('XADD', KEYS[1], '*', 'body', ARGV[i])
    else
        reply = redis.pcall('XADD', KEYS[1], '*', 'body', ARGV[i], 'headers', ARGV[i + 1])
    end
    stored = stored or not reply.err
    replies[#replies + 1] = reply
end
-- If ringing fails, what is stored is still accepted: the sweep rings.
if stored then
    pcall(ring, KEYS[2], KEYS[3], ARGV[1], ARGV[2], ARGV[3])
end
return replies
