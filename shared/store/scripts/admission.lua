-- Admits a request: as an event with one due entry for each target, as a duplicate, or into quarantine.
-- Included by the scripts that take requests from a place. Each sets before:
--   place                    `inbox`, `quarantine`, or `duplicates` (admitted by hand, without a check for copies)
--   source, window, resend, retention (of the records of copies, in ms; 0: nothing but another script removes them)
--   HEAD                     how many arguments stand before the first request's
--   find(entry, id)          returns a request's body (nil: it is gone), its headers, how many copies of it were
--                            suppressed, and how many of these had another body
--   leave(entry, id)         removes a request from its place
--   and includes copies.lua
-- Writes dedupe:*, count:*, event:*, open, finished, due:*, lane:*, transaction:*,
-- duplicates, duplicate:*, quarantine, quarantined:*.

-- The places of a request's arguments: its entry in the inbox, the id of its event, its dedupe key (a letter and 16
-- bytes of SHA-256), the counter that is part of this key and the counter that the event raises (digests, or ''), the
-- digest of its body, and its kind: `event` or `quarantine`.
local WIDTH = 13
local ENTRY, EVENT, DEDUPE, COUNTS, RAISES, DIGEST, KIND = 0, 1, 2, 3, 4, 5, 6
-- For an event: the names of its targets, with commas; attributes; data; the body's content type ('' for JSON's); its
-- transaction (the key without `<prefix>transaction:`, or ''); and the names of the ordered ones among its targets
-- (`,names,`, or '').
local TARGETS, ATTRIBUTES, DATA, CONTENT_TYPE, TRANSACTION, ORDERED = 7, 8, 9, 10, 11, 12
-- For a request that goes to quarantine; its other arguments are ''.
local CODE, DETAIL, HEADERS = 7, 8, 9

-- A script that fails keeps what it wrote, so all arguments are checked before the first write.
if (#ARGV - HEAD) % WIDTH ~= 0 or not (window and resend and tonumber(retention) and find) then
    return redis.error_reply('ERR admit: wrong arguments')
end
for i = HEAD + 1, #ARGV, WIDTH do
    local kind = ARGV[i + KIND]
    if not string.match(ARGV[i + ENTRY], '^%d+%-%d+$') or (kind ~= 'event' and kind ~= 'quarantine') then
        return redis.error_reply('ERR admit: wrong entry')
    end
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due_now = string.format('%d', now)  -- as text: Redis would convert a number for each event
local tag = string.sub(ARGV[HEAD + 1 + EVENT] or '', 16, 23)  -- the source's part of its events' ids

-- include: dedupe.lua

-- What is added to sorted sets at the end: key → scores and ids. One command for many members costs less than one for
-- each.
local added = {}

local function add(key, score, id)
    local members = added[key] or {}
    added[key] = members
    members[#members + 1] = score
    members[#members + 1] = id
end

-- Returns the dedupe key of a body, from its digest in hexadecimal.
local function resend_key(digest)
    return 'r' .. string.gsub(digest, '..', function(pair)
        return string.char(tonumber(pair, 16))
    end)
end

local function counter(digest)
    return prefix .. 'count:' .. source .. ':' .. digest
end

-- Records a duplicate of `first`, and keeps its body if the first's is another or gone. Returns 1 if it is another,
-- else 0.
local function record(id, received, first, digest, body, headers, copies, differing)
    local known = redis.call('HGET', prefix .. 'event:' .. first, 'digest')
        or redis.call('HGET', prefix .. 'quarantined:' .. first, 'digest')
    local fields = {'of', first, 'source', source, 'digest', digest}
    local function keep(name, value)
        fields[#fields + 1] = name
        fields[#fields + 1] = value
    end
    local differs = 0
    if known ~= digest then
        keep('body', body)
        if known then  -- nobody can tell if the first is gone
            differs = 1
            keep('differs', '1')
        end
    end
    if headers ~= '' then
        keep('headers', headers)
    end
    redis.call('HSET', prefix .. 'duplicate:' .. id, unpack(fields))
    if tonumber(retention) > 0 then
        redis.call('PEXPIRE', prefix .. 'duplicate:' .. id, retention)
    end
    redis.call('ZADD', prefix .. 'duplicates', received, id)
    count_copies(first, 1 + copies, differs + differing)
    return differs
end

local function admit(i)
    local entry, id, digest, kind = ARGV[i + ENTRY], ARGV[i + EVENT], ARGV[i + DIGEST], ARGV[i + KIND]
    local key, counts, raises = ARGV[i + DEDUPE], ARGV[i + COUNTS], ARGV[i + RAISES]
    local body, headers, copies, differing = find(entry, id)
    if not body then
        return 'gone', '', 0
    end
    if kind == 'quarantine' and place ~= 'inbox' then
        if place == 'quarantine' then  -- the reason may be another one now
            redis.call('HSET', prefix .. 'quarantined:' .. id, 'code', ARGV[i + CODE], 'detail', ARGV[i + DETAIL])
        end
        return 'quarantined', '', 0
    end
    local received = string.match(entry, '^%d+')
    local received_ms = tonumber(received)

    -- A key with a counter changes when the counter is raised, and a later copy gets the new key. So its event holds
    -- the key of its body, too, for `resend` ms.
    local first
    if counts ~= '' then
        key = key .. (redis.call('GET', counter(counts)) or '0')
        first = resend > 0 and hold(resend_key(digest), id, received_ms, resend)
    end
    if not first or first == id then  -- a copy that is admitted by hand has held the one for its bytes since it came
        first = hold(key, id, received_ms, window)
    end
    first = first and first_of(first)
    -- A request from quarantine may hold the key itself: that of its body.
    if first and first ~= id and place ~= 'duplicates' then
        local differs = record(id, received, first, digest, body, headers, copies, differing)
        leave(entry, id)
        return 'duplicate', first, differs
    end
    if kind == 'quarantine' then
        redis.call('HSET', prefix .. 'quarantined:' .. id, 'source', source, 'body', body,
            'digest', digest, 'code', ARGV[i + CODE], 'detail', ARGV[i + DETAIL], 'headers', ARGV[i + HEADERS])
        redis.call('ZADD', prefix .. 'quarantine', received, id)
    else
        local targets, content_type = ARGV[i + TARGETS], ARGV[i + CONTENT_TYPE]
        local transaction, ordered = ARGV[i + TRANSACTION], ARGV[i + ORDERED]
        local open = 0
        for target in string.gmatch(targets, '[^,]+') do
            open = open + 1
            -- In an ordered target it is due only if it is the first in its lane.
            if ordered == '' or not string.find(ordered, ',' .. target .. ',', 1, true)
                or redis.call('RPUSH', prefix .. 'lane:' .. target .. ':' .. transaction, id) == 1 then
                add(prefix .. 'due:' .. target, due_now, id)
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
            add(prefix .. 'transaction:' .. transaction, received, id)
        end
        if copies > 0 then
            set('copies', copies)
            set('differing', differing)
        end
        if place == 'duplicates' then
            set('copy_of', first_of(id))
        end
        redis.call('HSET', prefix .. 'event:' .. id, unpack(fields))
        add(open > 0 and prefix .. 'open' or prefix .. 'finished', received, id)
        if raises ~= '' then
            redis.call('INCR', counter(raises))
            redis.call('PEXPIRE', counter(raises), window)
        end
    end
    leave(entry, id)
    return kind == 'event' and 'admitted' or 'quarantined', '', 0
end

-- Admits all requests. Returns one list, with four values for each request that did not become an event: its index
-- (from 0), what became of it (`quarantined`, `duplicate`, `gone`), of which first it is a duplicate (else ''), and 1
-- if it is a duplicate with another body, else 0.
local function admit_all()
    local results = {}
    for i = HEAD + 1, #ARGV, WIDTH do
        local what, of, differs = admit(i)
        if what ~= 'admitted' then
            local n = #results
            results[n + 1], results[n + 2] = (i - HEAD - 1) / WIDTH, what
            results[n + 3], results[n + 4] = of, differs
        end
    end
    for key, members in pairs(added) do
        redis.call('ZADD', key, unpack(members))
    end
    return results
end
