-- Settles claimed deliveries: done, to be tried again, dead, dead because the target is gone, or handed back.
--   ARGV[1] how many targets; for each of them: name, how many failures in a row open its breaker, the first
--   and the longest time that it stays open, ms, after how long a time of failures it is disabled, ms, the reason
--   to record then, and `hold` if a dead letter holds the rest of its transaction (else '')
--   then for each delivery: target, event id, token, outcome (`done`, `retry`, `dead`, `gone`, `back`),
--   the delay before the next attempt in ms (`retry`; else ''), the attempt as JSON ('' for none), what went
--   wrong ('' for nothing), and how old the delivery is at its next attempt, in ms (`retry`), or why it was given
--   up, as a word and a sentence (`dead`, `gone`; else '')
-- Writes leased:*, due:*, dead:*, lane:*, held:*, event:*, attempts:*, open,
-- finished, target:*.
-- Returns two lists: for each delivery 1 if it changed something, else 0; for each target what happened to it:
-- '', `opened`, `closed` or `disabled`.
-- Each outcome but `done` needs the claim's token; `done` always counts, once. So if repeated, nothing changes:
-- the token is spent, or the end is written. The first write removes leases: it frees memory, which lets Redis
-- finish a script when it is full.
local prefix = KEYS[#KEYS]

-- The places of the arguments, of a target and of a delivery.
local RULES_WIDTH = 7
local NAME, FAILURES, FIRST_MS, LONGEST_MS, DISABLE_AFTER_MS, DISABLE_REASON, HOLD = 0, 1, 2, 3, 4, 5, 6
local WIDTH = 8
local TARGET, EVENT, TOKEN, OUTCOME, DELAY, ATTEMPT, WRONG, NOTE = 0, 1, 2, 3, 4, 5, 6, 7

local first = 2 + tonumber(ARGV[1]) * RULES_WIDTH
if (#ARGV - first + 1) % WIDTH ~= 0 then
    return redis.error_reply('ERR settle: wrong arguments')
end
for i = first, #ARGV, WIDTH do
    local retry = ARGV[i + OUTCOME] == 'retry'
    if not tonumber(ARGV[i + TOKEN]) or retry and not (tonumber(ARGV[i + DELAY]) and tonumber(ARGV[i + NOTE])) then
        return redis.error_reply('ERR settle: wrong delivery')
    end
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- The results of the batch for each target; breaker.lua writes them, once for each target.
local news, order = {}, {}
for i = 2, first - 1, RULES_WIDTH do
    local name = ARGV[i + NAME]
    order[#order + 1] = name
    local rules = {
        failures = tonumber(ARGV[i + FAILURES]),
        first_ms = tonumber(ARGV[i + FIRST_MS]),
        longest_ms = tonumber(ARGV[i + LONGEST_MS]),
        disable_after_ms = tonumber(ARGV[i + DISABLE_AFTER_MS]),
        disable_reason = ARGV[i + DISABLE_REASON],
    }
    news[name] = {done = 0, failed = 0, run = 0, rules = rules, hold = ARGV[i + HOLD] == 'hold'}
end

-- include: lanes.lua

-- Which deliveries count: those whose token is still valid, and those that are `done` if that was never written.
local HOLDS, WAS_LOST = 1, 2
local counts, ended, spent, tried = {}, {}, {}, {}
local asked, leases, place = {}, {}, {}
for i = first, #ARGV, WIDTH do
    local target = ARGV[i + TARGET]
    local ids = asked[target] or {}
    asked[target] = ids
    ids[#ids + 1] = ARGV[i + EVENT]
    place[i] = #ids
end
for target, ids in pairs(asked) do
    leases[target] = redis.call('ZMSCORE', prefix .. 'leased:' .. target, unpack(ids))
end
for i = first, #ARGV, WIDTH do
    local target, id, token, outcome = ARGV[i + TARGET], ARGV[i + EVENT], ARGV[i + TOKEN], ARGV[i + OUTCOME]
    local claim = target .. ' ' .. id
    local held = not spent[claim] and leases[target][place[i]]
    if held and tonumber(held) == tonumber(token) then
        counts[i] = HOLDS
        spent[claim] = true
        tried[claim] = outcome ~= 'back' and token
    -- `done` without a valid token counts unless it was written before: after a lost reply it is repeated, and a replay
    -- in between is another delivery. It was written if its attempt is there, or was packed with the event.
    elseif outcome == 'done' and tried[claim] ~= token
        and redis.call('HEXISTS', prefix .. 'attempts:' .. id, target .. ' ' .. token) == 0
        and tonumber(token) > tonumber(redis.call('HGET', prefix .. 'event:' .. id, 'packed') or 0) then
        counts[i] = WAS_LOST
        spent[claim] = true  -- a later claim of the same delivery, settled in the same batch, ends nothing any more
    end
    if counts[i] then
        ended[target] = ended[target] or {}
        ended[target][#ended[target] + 1] = id
    end
end
for target, ids in pairs(ended) do
    redis.call('ZREM', prefix .. 'leased:' .. target, unpack(ids))
end

local finished = {}

local function settle(count, i)
    local target, id, token, outcome = ARGV[i + TARGET], ARGV[i + EVENT], ARGV[i + TOKEN], ARGV[i + OUTCOME]
    local attempt, note = ARGV[i + ATTEMPT], ARGV[i + NOTE]
    local due, event = prefix .. 'due:' .. target, prefix .. 'event:' .. id
    local known = redis.call('HMGET', event, 'open', 'ordered', 'transaction', 'end:' .. target)
    if not known[1] then
        return 0
    end
    if attempt ~= '' then
        redis.call('HSET', prefix .. 'attempts:' .. id, target .. ' ' .. token, attempt)
    end
    if outcome == 'back' then
        redis.call('ZADD', due, now, id)
    elseif outcome == 'retry' then
        redis.call('ZADD', due, now + tonumber(ARGV[i + DELAY]), id)
        redis.call('HINCRBY', event, 'failed:' .. target, 1)
        redis.call('HSET', event, 'age:' .. target, note)
    elseif outcome ~= 'done' then
        redis.call('ZADD', prefix .. 'dead:' .. target, now, id)
        redis.call('HINCRBY', event, 'failed:' .. target, 1)
        redis.call('HSET', event, 'end:' .. target, 'dead', 'why:' .. target, note)
        if in_lane(target, known[2]) then
            end_in_lane(target, id, known[3], news[target] and news[target].hold)
        end
    else
        if known[4] and known[4] ~= 'dead' then
            return 0
        end
        if count == WAS_LOST then
            -- Its lease ran out meanwhile, so it waits again, or is a dead letter.
            redis.call('ZREM', due, id)
            redis.call('ZREM', prefix .. 'dead:' .. target, id)
            redis.call('HDEL', event, 'why:' .. target)
        end
        local open = tonumber(known[1]) - 1
        redis.call('HSET', event, 'end:' .. target, 'done', 'open', open)
        if in_lane(target, known[2]) then
            advance(target, id, known[3])
        end
        if open == 0 then
            finished[#finished + 1] = id
        end
    end
    return 1
end

local results = {}
for i = first, #ARGV, WIDTH do
    local changed = counts[i] and settle(counts[i], i) or 0
    results[#results + 1] = changed
    local of, outcome = news[ARGV[i + TARGET]], ARGV[i + OUTCOME]
    if of and changed == 1 and outcome ~= 'back' then
        if outcome == 'done' then
            of.done, of.run, of.succeeded = of.done + 1, 0, true
        else
            of.failed, of.run, of.wrong = of.failed + 1, of.run + 1, ARGV[i + WRONG]
            of.gone = of.gone or outcome == 'gone'
        end
    end
end
if #finished > 0 then
    local received, hex, ms = {}, nil, nil
    for i, id in ipairs(finished) do
        -- As text, once for all of one millisecond: Redis would convert each number.
        if string.sub(id, 5, 15) ~= hex then
            hex = string.sub(id, 5, 15)
            ms = string.format('%d', tonumber(hex, 16))
        end
        received[2 * i - 1], received[2 * i] = ms, id
    end
    redis.call('ZREM', prefix .. 'open', unpack(finished))
    redis.call('ZADD', prefix .. 'finished', unpack(received))
end

-- include: breaker.lua

local changes = {}
for _, name in ipairs(order) do
    local of = news[name]
    changes[#changes + 1] = (of.done + of.failed > 0) and learn(name, of) or ''
end
return {results, changes}
