-- Opens and closes the breaker of a target, and counts how its attempts ended.
-- Included by settle.lua, which sets `now` before: Redis's time, ms. Writes target:*.

-- Takes up the results of a batch for a target. `of` has how many attempts were `done` and `failed`, how many failed in
-- a row at the end (`run`), whether any `succeeded`, what went `wrong` last, whether the target is `gone`, and the
-- target's `rules`, from the arguments of settle.lua. Keeps the counts of this hour and of the one before. Returns what
-- changed: '', `opened`, `closed` or `disabled`.
local function learn(name, of)
    local key, rules = prefix .. 'target:' .. name, of.rules
    local hour = math.floor(now / 3600000)
    local known = redis.call('HMGET', key, 'hour', 'done', 'failed', 'failures', 'failing_since', 'trips',
        'open_until', 'state')
    local done, failed = tonumber(known[2] or 0), tonumber(known[3] or 0)
    if tonumber(known[1]) ~= hour then
        local last = tonumber(known[1]) == hour - 1
        redis.call('HSET', key, 'hour', hour, 'done_before', last and done or 0, 'failed_before', last and failed or 0)
        done, failed = 0, 0
    end
    redis.call('HSET', key, 'done', done + of.done, 'failed', failed + of.failed)
    local failures, since = tonumber(known[4] or 0), tonumber(known[5])
    local change = ''
    if of.succeeded then
        failures, since = 0, nil
        if known[4] then
            redis.call('HDEL', key, 'failures', 'failing_since', 'trips', 'open_until')
        end
        change = known[7] and 'closed' or ''
    end
    if of.failed > 0 then
        redis.call('HSET', key, 'last_error', of.wrong, 'last_failed', now)
    end
    if of.run == 0 and not of.gone then  -- a 410 counts, even if an attempt after it succeeded
        return change
    end
    failures, since = failures + of.run, since or now
    redis.call('HSET', key, 'failures', failures, 'failing_since', since)
    if known[8] then
        return change
    end
    if of.gone or now - since >= rules.disable_after_ms then
        local reason = of.gone and 'answered 410 Gone' or rules.disable_reason
        redis.call('HSET', key, 'state', 'disabled', 'reason', reason, 'state_since', now)
        return 'disabled'
    end
    local open_until = not of.succeeded and tonumber(known[7])
    if failures >= rules.failures and not (open_until and open_until > now) then
        local trips = of.succeeded and 0 or tonumber(known[6] or 0)
        local wait = math.min(rules.first_ms * 2 ^ math.min(trips, 30), rules.longest_ms)
        redis.call('HSET', key, 'trips', trips + 1, 'open_until', string.format('%.0f', now + wait))
        return open_until and '' or 'opened'
    end
    return change
end
