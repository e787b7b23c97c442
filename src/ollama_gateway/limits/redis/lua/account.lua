-- One API key's account in Redis: what the scripts about it begin with.
--
-- KEYS, all in one hash slot:
--   1 rate    zset  request id -> when it was admitted
--   2 leases  zset  request id -> when it expires; these are the open reservations
--   3 held    hash  request id -> "tokens day month used" of open and expired ones, "ended" of
--                   those that were settled before they were reserved (a tombstone)
--   4 past    zset  request id -> when an expired one or a tombstone is forgotten
--   5 budget  hash  "<period>:reserved" and "<period>:spent", period = "day:20781" or "month:24322"
--
-- Times are milliseconds of this server's clock. Each script is one step, done whole or not at all;
-- memory.py says the same in Python. A call of Redis costs about 1 us here, so each is made once.
local RATE, LEASES, HELD, PAST, BUDGET = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local call = redis.call
local WINDOW, REMEMBERED, SOON = 60000, 3600000, 1000
local KEPT = 63 * 86400000 -- an account that is not used goes with the budgets of last month
local DAY = 86400000

local function clock(offset)
  local time = call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000) + offset
end

-- The calendar of the civil year, by shifting the year's start to March: the month (12 * year +
-- month - 1) of a day since 1970, and the first day of a month.
local function month_of(day)
  local z = day + 719468
  local era = math.floor(z / 146097)
  local of_era = z - era * 146097
  local year = math.floor((of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524)
    - math.floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  return (year + era * 400) * 12 + math.floor((5 * of_year + 2) / 153) + 2
end

local function first_day(month)
  local from_march = month - 2
  local year = math.floor(from_march / 12)
  local era = math.floor(year / 400)
  local of_era = year - era * 400
  local of_year = math.floor((153 * (from_march - year * 12) + 2) / 5)
  return era * 146097 + of_era * 365 + math.floor(of_era / 4) - math.floor(of_era / 100)
    + of_year - 719468
end

local function month_ends(now)
  return first_day(month_of(math.floor(now / DAY)) + 1) * DAY - now
end

local function number(text)
  return tonumber(text) or 0
end

-- Reserved and spent tokens of a day, then of its month.
local function budgets(day, month)
  local d, m = 'day:' .. day .. ':', 'month:' .. month .. ':'
  local found = call('HMGET', BUDGET, d .. 'reserved', d .. 'spent', m .. 'reserved', m .. 'spent')
  return number(found[1]), number(found[2]), number(found[3]), number(found[4])
end

-- Move a record's tokens: so many more reserved, so many more spent, in its own periods.
local function charge(record, reserved, spent)
  if record.tokens == 0 then
    return
  end
  local d, m = 'day:' .. record.day .. ':', 'month:' .. record.month .. ':'
  if reserved ~= 0 then
    call('HINCRBY', BUDGET, d .. 'reserved', reserved)
    call('HINCRBY', BUDGET, m .. 'reserved', reserved)
  end
  if spent ~= 0 then
    call('HINCRBY', BUDGET, d .. 'spent', spent)
    call('HINCRBY', BUDGET, m .. 'spent', spent)
  end
end

-- The record of an open or expired reservation; nil and whether it has ended before it began. What
-- this program did not write is no record.
local function read(id)
  local text = call('HGET', HELD, id) or ''
  local tokens, day, month, used = string.match(text, '^(%d+) (%d+) (%d+) (%d+)$')
  if not tokens then
    return nil, text == 'ended'
  end
  return { tokens = tonumber(tokens), day = day, month = month, used = tonumber(used) }
end

local function open(id, record, lease_ends)
  call('HSET', HELD, id, string.format('%d %s %s %d', record.tokens, record.day, record.month,
    record.used))
  call('ZADD', LEASES, lease_ends, id)
end

-- Have what has expired open again, as it was.
local function reopen(id, record, lease_ends)
  charge(record, record.tokens, -record.used)
  call('ZREM', PAST, id)
  open(id, record, lease_ends)
end

local function bury(id, now)
  call('HSET', HELD, id, 'ended')
  call('ZADD', PAST, now + REMEMBERED, id)
  call('PEXPIRE', HELD, KEPT)
  call('PEXPIRE', PAST, KEPT)
end

-- Let go of what has had its time: of open reservations, which then have spent what was last told of
-- them, and of what is remembered.
local function expire(now)
  for _, id in ipairs(call('ZRANGEBYSCORE', LEASES, '-inf', now)) do
    local record = read(id)
    if record then
      charge(record, -record.tokens, record.used)
    end
    call('ZREM', LEASES, id)
    call('ZADD', PAST, now + REMEMBERED, id)
    call('PEXPIRE', PAST, KEPT)
  end
end

local function forget(now)
  for _, id in ipairs(call('ZRANGEBYSCORE', PAST, '-inf', now)) do
    call('HDEL', HELD, id)
    call('ZREM', PAST, id)
  end
end

-- Drop what no budget asks for any more; called on the first reservation of a day.
local function trim(day)
  local month = month_of(day)
  for _, field in ipairs(call('HKEYS', BUDGET)) do
    local of_day = tonumber(string.match(field, 'day:(%d+):') or string.match(field, '^given:.*:(%d+)$'))
    local of_month = tonumber(string.match(field, '^month:(%d+):'))
    if of_day and of_day < day - 62 or of_month and of_month < month - 1 then
      call('HDEL', BUDGET, field)
    end
  end
end

-- What a `Usage` is made of: admissions, ms until the last of them leaves the window, open, tokens
-- of the day, of the month, ms left of the day, of the month.
local function usage(now, day, admissions, newest, opened, of_day, of_month)
  return string.format('%d %.0f %d %.0f %.0f %.0f %.0f', admissions,
    newest and newest + WINDOW - now or 0, opened, of_day, of_month, (day + 1) * DAY - now,
    month_ends(now))
end
