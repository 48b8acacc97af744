-- Admits requests: dedupe, event, one due entry a target, then out of where they stood; all or nothing.
--   KEYS[1] hr:inbox:<source>   KEYS[2] hr:alone:<source>   KEYS[3] hr:turn:<source>
--   ARGV[1] source   ARGV[2] group   ARGV[3] dedupe window, ms   ARGV[4] resend window, ms
--   ARGV[5] retention of events, ms
--   ARGV[6] where they stand: `inbox`, `quarantine`, or `duplicates` (admitted unchecked, by hand)
--   ARGV[7] who must hold the source's turn ('' for nobody), and ARGV[8] for how long it holds it then, ms
--   then for each entry: its id, the event's id, the dedupe key (a letter and 16 bytes of SHA-256), the counter
--   it counts, the counter it raises (digests, or ''), the body's digest, kind (`event` or `quarantine`), and
--     event:       target names with commas, attributes, data, the body's content type ('' for JSON's),
--                  transaction (its key without `hr:transaction:`, or ''), and of the targets those that want
--                  its transaction's events in order (`,names,`, or '')
--     quarantine:  code, detail, headers, '', '', ''
-- Writes hr:dedupe:*, hr:count:*, hr:event:*, hr:open, hr:finished, hr:due:*, hr:lane:*, hr:transaction:*,
-- hr:duplicates, hr:duplicate:*, hr:quarantine, hr:quarantined:*.
-- Returns for each entry that was not admitted its place among them (from 0), what became of it (`quarantined`,
-- `duplicate`, `gone`), of what, and 1 where it is a duplicate with another body, else 0; all in one list. What
-- is unreadable still stays where it is.
-- Said twice: an entry is no longer where it stood, so it is `gone`, and no copy sees its own dedupe key.
local inbox, alone = KEYS[1], KEYS[2]
local source, group, window, resend, retention, place, fence, turn_ms = unpack(ARGV, 1, 8)
window, resend = tonumber(window), tonumber(resend)
local HEAD, WIDTH = 8, 13
-- What stands where in an entry's arguments, after its id.
local EVENT, DEDUPE, COUNTS, RAISES, DIGEST, KIND = 1, 2, 3, 4, 5, 6
local TARGETS, ATTRIBUTES, DATA, CONTENT_TYPE, TRANSACTION, ORDERED = 7, 8, 9, 10, 11, 12
local CODE, DETAIL, HEADERS = 7, 8, 9
local CHAIN = 8  -- a copy of what became a copy itself: this deep at most

local function field(fields, name)
    for i = 1, #fields, 2 do
        if fields[i] == name then
            return fields[i + 1]
        end
    end
    return ''
end

-- By place: how a request is found there (its body, nil where it is gone; its headers; how many copies
-- of it were suppressed, and how many of these had another body), and how it leaves.
local find, leave = {}, {}

-- What is written for many at once, when all have been looked at: name of a key → arguments, and of the inbox
-- the entries that leave it. A command costs more than what it does.
local added, left = {}, {}

local function add(key, score, id)
    local members = added[key] or {}
    added[key] = members
    members[#members + 1] = score
    members[#members + 1] = id
end

-- A batch was taken at once, so nothing else stands between its entries: one command reads them all.
local batch = {}

local function read_inbox(first, last, count)
    for _, found in ipairs(redis.call('XRANGE', inbox, first, last, 'COUNT', count)) do
        batch[found[1]] = found[2]
    end
end

function find.inbox(entry)
    -- An entry leaves as it is admitted: while it is there, nobody has.
    if not batch[entry] then
        read_inbox(entry, entry, 1)
    end
    local found = batch[entry]
    if not found then
        left[#left + 1] = entry  -- Redis 6.2 keeps what was deleted pending for ever
        return nil
    end
    return field(found, 'body'), field(found, 'headers'), 0, 0
end

function leave.inbox(entry)
    left[#left + 1] = entry
end

function find.quarantine(_, id)
    local kept = redis.call('HMGET', 'hr:quarantined:' .. id, 'body', 'headers', 'copies', 'differing')
    return kept[1] or nil, kept[2] or '', tonumber(kept[3] or 0), tonumber(kept[4] or 0)
end

function leave.quarantine(_, id)
    redis.call('DEL', 'hr:quarantined:' .. id)
    redis.call('ZREM', 'hr:quarantine', id)
end

function find.duplicates(_, id)
    local at, headers = id, redis.call('HGET', 'hr:duplicate:' .. id, 'headers') or ''
    for _ = 1, CHAIN do
        local copy = redis.call('HMGET', 'hr:duplicate:' .. at, 'of', 'body')
        if not copy[1] then
            return nil
        end
        at = copy[1]
        local body = copy[2] or redis.call('HGET', 'hr:event:' .. at, 'body')
            or redis.call('HGET', 'hr:quarantined:' .. at, 'body')
        if body then
            return body, headers, 0, 0
        end
    end
    return nil
end

-- What a copy is a copy of in the end, where its first became a copy itself.
local function first_of(id)
    for _ = 1, CHAIN do
        local of = redis.call('HGET', 'hr:duplicate:' .. id, 'of')
        if not of then
            return id
        end
        id = of
    end
    return id
end

-- Adds to what the first (an event, or a request in quarantine) knows of its suppressed copies.
local function count_copies(first, copies, differing)
    for _, key in ipairs({'hr:event:' .. first, 'hr:quarantined:' .. first}) do
        if redis.call('EXISTS', key) == 1 then
            redis.call('HINCRBY', key, 'copies', copies)
            if differing ~= 0 then
                redis.call('HINCRBY', key, 'differing', differing)
            end
        end
    end
end

function leave.duplicates(_, id)
    count_copies(first_of(id), -1, redis.call('HGET', 'hr:duplicate:' .. id, 'differs') and -1 or 0)
    redis.call('DEL', 'hr:duplicate:' .. id)
    redis.call('ZREM', 'hr:duplicates', id)
end

-- A script that fails keeps what it wrote: so whatever can be wrong with the call is found first.
if (#ARGV - HEAD) % WIDTH ~= 0 or not window or not resend or not tonumber(retention) or not find[place] then
    return redis.error_reply('ERR admit: wrong arguments')
end
for i = HEAD + 1, #ARGV, WIDTH do
    local kind = ARGV[i + KIND]
    if not string.match(ARGV[i], '^%d+%-%d+$') or (kind ~= 'event' and kind ~= 'quarantine') then
        return redis.error_reply('ERR admit: wrong entry')
    end
end

-- Whoever lost its turn (it was suspended, say) must not admit what is another's to order.
if fence ~= '' then
    if redis.call('GET', KEYS[3]) ~= fence then
        return redis.error_reply('FENCED admit: the turn is over')
    end
    redis.call('PEXPIRE', KEYS[3], turn_ms)
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due_now = string.format('%d', now)  -- once: Redis would write a number out for each event
local tag = string.sub(ARGV[HEAD + 1 + EVENT] or '', 16, 23)  -- stands for the source in all of its events' ids

-- include: dedupe.lua

-- The key of a body's bytes, made from their digest in hexadecimal.
local function resend_key(digest)
    return 'r' .. string.gsub(digest, '..', function(pair)
        return string.char(tonumber(pair, 16))
    end)
end

local function counter(digest)
    return 'hr:count:' .. source .. ':' .. digest
end

-- Records a duplicate of `first`; its body is kept where it is not the first's. Returns 1 where it differs.
local function record(id, received, first, digest, body, headers, copies, differing)
    local known = redis.call('HGET', 'hr:event:' .. first, 'digest')
        or redis.call('HGET', 'hr:quarantined:' .. first, 'digest')
    local fields = {'of', first, 'source', source, 'digest', digest}
    local function keep(name, value)
        fields[#fields + 1] = name
        fields[#fields + 1] = value
    end
    local differs = 0
    if known ~= digest then
        keep('body', body)
        if known then  -- else the first is gone, and nobody can tell
            differs = 1
            keep('differs', '1')
        end
    end
    if headers ~= '' then
        keep('headers', headers)
    end
    redis.call('HSET', 'hr:duplicate:' .. id, unpack(fields))
    redis.call('PEXPIRE', 'hr:duplicate:' .. id, retention)
    redis.call('ZADD', 'hr:duplicates', received, id)
    count_copies(first, 1 + copies, differs + differing)
    return differs
end

local function admit(i)
    local entry, id, digest, kind = ARGV[i], ARGV[i + EVENT], ARGV[i + DIGEST], ARGV[i + KIND]
    local key, counts, raises = ARGV[i + DEDUPE], ARGV[i + COUNTS], ARGV[i + RAISES]
    local body, headers, copies, differing = find[place](entry, id)
    if not body then
        return 'gone', '', 0
    end
    if kind == 'quarantine' and place ~= 'inbox' then
        if place == 'quarantine' then
            redis.call('HSET', 'hr:quarantined:' .. id, 'code', ARGV[i + CODE], 'detail', ARGV[i + DETAIL])
        end
        return 'quarantined', '', 0
    end
    local received = string.match(entry, '^%d+')
    local received_ms = tonumber(received)

    -- A key that counts is another one after each round: so its event holds one for its bytes too, for a while.
    local first
    if counts ~= '' then
        key = key .. (redis.call('GET', counter(counts)) or '0')
        first = resend > 0 and hold(resend_key(digest), id, received_ms, resend)
    end
    first = first or hold(key, id, received_ms, window)
    first = first and first_of(first)
    -- What was quarantined may hold the key itself: its body's digest.
    if first and first ~= id and place ~= 'duplicates' then
        local differs = record(id, received, first, digest, body, headers, copies, differing)
        leave[place](entry, id)
        return 'duplicate', first, differs
    end
    if kind == 'quarantine' then
        redis.call('HSET', 'hr:quarantined:' .. id, 'source', source, 'body', body,
            'digest', digest, 'code', ARGV[i + CODE], 'detail', ARGV[i + DETAIL], 'headers', ARGV[i + HEADERS])
        redis.call('ZADD', 'hr:quarantine', received, id)
    else
        local targets, content_type = ARGV[i + TARGETS], ARGV[i + CONTENT_TYPE]
        local transaction, ordered = ARGV[i + TRANSACTION], ARGV[i + ORDERED]
        local open = 0
        for target in string.gmatch(targets, '[^,]+') do
            open = open + 1
            -- In a lane it is due only if it is the first of its transaction there.
            if ordered == '' or not string.find(ordered, ',' .. target .. ',', 1, true)
                or redis.call('RPUSH', 'hr:lane:' .. target .. ':' .. transaction, id) == 1 then
                add('hr:due:' .. target, due_now, id)
            end
        end
        local fields = {'attributes', ARGV[i + ATTRIBUTES], 'data', ARGV[i + DATA], 'body', body, 'digest', digest,
            'targets', targets, 'open', open}
        local n = #fields
        local function set(name, value)
            fields[n + 1], fields[n + 2] = name, value
            n = n + 2
        end
        if ordered ~= '' then
            set('ordered', ordered)
        end
        if content_type ~= '' then
            set('type', content_type)
        end
        if transaction ~= '' then
            set('transaction', transaction)
            add('hr:transaction:' .. transaction, received, id)
        end
        if copies > 0 then
            set('copies', copies)
            set('differing', differing)
        end
        if place == 'duplicates' then
            set('copy_of', first_of(id))
        end
        redis.call('HSET', 'hr:event:' .. id, unpack(fields))
        add(open > 0 and 'hr:open' or 'hr:finished', received, id)
        if raises ~= '' then
            redis.call('INCR', counter(raises))
            redis.call('PEXPIRE', counter(raises), window)
        end
    end
    leave[place](entry, id)
    return kind == 'event' and 'admitted' or 'quarantined', '', 0
end

if place == 'inbox' then
    read_inbox(ARGV[HEAD + 1], ARGV[#ARGV - WIDTH + 1], (#ARGV - HEAD) / WIDTH)
end
local results = {}
for i = HEAD + 1, #ARGV, WIDTH do
    local what, of, differs = admit(i)
    if what ~= 'admitted' then
        local n = #results
        results[n + 1], results[n + 2], results[n + 3], results[n + 4] = (i - HEAD - 1) / WIDTH, what, of, differs
    end
end
for key, members in pairs(added) do
    redis.call('ZADD', key, unpack(members))
end
if #left > 0 then
    redis.call('XACK', inbox, group, unpack(left))
    redis.call('XDEL', inbox, unpack(left))
    redis.call('HDEL', alone, unpack(left))
end
return results
