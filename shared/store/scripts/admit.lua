-- Admits inbox entries: dedupe, event, one due entry a target, then out of the inbox; all or nothing.
--   KEYS[1] hr:inbox:<source>   KEYS[2] hr:alone:<source>
--   ARGV[1] source   ARGV[2] group   ARGV[3] dedupe window, ms   ARGV[4] retention of events, ms
--   then for each entry: its id, the event's id, the dedupe digest, the counter it counts, the counter
--   it raises (digests, or ''), the body's digest, kind (`event` or `quarantine`), and
--     event:       target names with commas, attributes, data, the body's content type ('' for JSON's)
--     quarantine:  code, detail, headers, ''
-- Writes hr:dedupe:*, hr:count:*, hr:event:*, hr:open, hr:finished, hr:due:*, hr:duplicates,
-- hr:duplicate:*, hr:quarantine, hr:quarantined:*.
-- Returns for each entry {what became of it (`admitted`, `quarantined`, `duplicate`, `gone`), of}.
-- Said twice: an entry is no longer pending, so it is `gone`, and no copy sees its own dedupe key.
local inbox, alone = KEYS[1], KEYS[2]
local source, group, window, retention = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local HEAD, WIDTH = 4, 11

-- A script that fails keeps what it wrote: so whatever can be wrong with the call is found first.
if (#ARGV - HEAD) % WIDTH ~= 0 or not tonumber(window) or not tonumber(retention) then
    return redis.error_reply('ERR admit: wrong arguments')
end
for i = HEAD + 1, #ARGV, WIDTH do
    if not string.match(ARGV[i], '^%d+%-%d+$') or (ARGV[i + 6] ~= 'event' and ARGV[i + 6] ~= 'quarantine') then
        return redis.error_reply('ERR admit: wrong entry')
    end
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function counter(digest)
    return 'hr:count:' .. source .. ':' .. digest
end

local function field(fields, name)
    for i = 1, #fields, 2 do
        if fields[i] == name then
            return fields[i + 1]
        end
    end
    return ''
end

local function admit(i)
    local entry, id, dedupe, counts, raises = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
    local digest, kind = ARGV[i + 5], ARGV[i + 6]
    if #redis.call('XPENDING', inbox, group, entry, entry, 1) == 0 then
        return {'gone', ''}
    end
    local found = redis.call('XRANGE', inbox, entry, entry)
    if #found == 0 then
        redis.call('XACK', inbox, group, entry)
        return {'gone', ''}
    end
    local body = field(found[1][2], 'body')
    local received = string.match(entry, '^%d+')

    local key = 'hr:dedupe:' .. source .. ':' .. dedupe
    if counts ~= '' then
        key = key .. ':' .. (redis.call('GET', counter(counts)) or '0')
    end
    local outcome, first = kind == 'event' and 'admitted' or 'quarantined', ''
    if not redis.call('SET', key, id, 'NX', 'PX', window) then
        outcome, first = 'duplicate', redis.call('GET', key) or ''
        local of = 'hr:event:' .. first
        local known = redis.call('HGET', of, 'digest') or redis.call('HGET', 'hr:quarantined:' .. first, 'digest')
        local record = 'hr:duplicate:' .. id
        redis.call('HSET', record, 'of', first, 'source', source, 'digest', digest)
        if known ~= digest then
            redis.call('HSET', record, 'body', body)
        end
        redis.call('PEXPIRE', record, retention)
        redis.call('ZADD', 'hr:duplicates', received, id)
        if redis.call('EXISTS', of) == 1 then
            redis.call('HINCRBY', of, 'copies', 1)
        end
    elseif kind == 'quarantine' then
        redis.call('HSET', 'hr:quarantined:' .. id, 'source', source, 'body', body,
            'digest', digest, 'code', ARGV[i + 7], 'detail', ARGV[i + 8], 'headers', ARGV[i + 9])
        redis.call('ZADD', 'hr:quarantine', received, id)
    else
        local targets, content_type, open = ARGV[i + 7], ARGV[i + 10], 0
        for target in string.gmatch(targets, '[^,]+') do
            redis.call('ZADD', 'hr:due:' .. target, now, id)
            open = open + 1
        end
        redis.call('HSET', 'hr:event:' .. id, 'attributes', ARGV[i + 8], 'data', ARGV[i + 9],
            'body', body, 'digest', digest, 'targets', targets, 'open', open)
        if content_type ~= '' then
            redis.call('HSET', 'hr:event:' .. id, 'type', content_type)
        end
        redis.call('ZADD', open > 0 and 'hr:open' or 'hr:finished', received, id)
        if raises ~= '' then
            redis.call('INCR', counter(raises))
            redis.call('PEXPIRE', counter(raises), window)
        end
    end
    redis.call('XACK', inbox, group, entry)
    redis.call('XDEL', inbox, entry)
    redis.call('HDEL', alone, entry)
    return {outcome, first}
end

local results = {}
for i = HEAD + 1, #ARGV, WIDTH do
    results[#results + 1] = admit(i)
end
return results
