-- One API key's account in Redis: the common beginning of the scripts that work on it.
--
-- KEYS, all in one hash slot:
--   1 rate    zset  request id -> when it was admitted
--   2 leases  zset  request id -> when it expires; these are the open reservations
--   3 held    hash  request id -> "tokens day month used" for an open or expired reservation,
--                   "ended" for a tombstone: settled, and never to be reserved again
--   4 past    zset  request id -> when an expired reservation or a tombstone is forgotten
--   5 budget  hash  "<period>:reserved" and "<period>:spent", period = "day:20781" or "month:24322";
--                   "given:<journal>:20781" and "forgiven:<journal>:<period>": what was added of a
--                   usage journal, and taken off
--
-- Times are milliseconds of this server's clock. Each script runs whole or not at all; account.py is
-- the same in Python. A call of Redis costs about 1 us here, so none is made twice.
local RATE, LEASES, HELD, PAST, BUDGET = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local call = redis.call
local WINDOW, REMEMBERED, SOON = 60000, 3600000, 1000
local DAY = 86400000
local KEPT = 63 * DAY -- an unused account expires together with the budgets of last month

local function clock(offset)
  local time = call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000) + offset
end

-- Return the month (12 * year + month - 1) of a day since 1970; the next function returns the first
-- day of a month. Both let the year start in March, so that the leap day is its last.
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

-- Return the reserved and spent tokens of a day, then of its month.
local function budgets(day, month)
  local d, m = 'day:' .. day .. ':', 'month:' .. month .. ':'
  local found = call('HMGET', BUDGET, d .. 'reserved', d .. 'spent', m .. 'reserved', m .. 'spent')
  return number(found[1]), number(found[2]), number(found[3]), number(found[4])
end

-- Add tokens to the reserved and the spent ones of a reservation's own day and month.
local function charge(reservation, reserved, spent)
  if reservation.tokens == 0 then
    return
  end
  local d, m = 'day:' .. reservation.day .. ':', 'month:' .. reservation.month .. ':'
  if reserved ~= 0 then
    call('HINCRBY', BUDGET, d .. 'reserved', reserved)
    call('HINCRBY', BUDGET, m .. 'reserved', reserved)
  end
  if spent ~= 0 then
    call('HINCRBY', BUDGET, d .. 'spent', spent)
    call('HINCRBY', BUDGET, m .. 'spent', spent)
  end
end

-- Return an open or expired reservation; or nil, and whether there is a tombstone. Text that this
-- program did not write is no reservation.
local function read(id)
  local text = call('HGET', HELD, id) or ''
  local tokens, day, month, used = string.match(text, '^(%d+) (%d+) (%d+) (%d+)$')
  if not tokens then
    return nil, text == 'ended'
  end
  return { tokens = tonumber(tokens), day = day, month = month, used = tonumber(used) }
end

local function open(id, reservation, lease_ends)
  call('HSET', HELD, id, string.format('%d %s %s %d', reservation.tokens, reservation.day,
    reservation.month, reservation.used))
  call('ZADD', LEASES, lease_ends, id)
end

-- Open an expired reservation again, as it was.
local function reopen(id, reservation, lease_ends)
  charge(reservation, reservation.tokens, -reservation.used)
  call('ZREM', PAST, id)
  open(id, reservation, lease_ends)
end

local function leave_tombstone(id, now)
  call('HSET', HELD, id, 'ended')
  call('ZADD', PAST, now + REMEMBERED, id)
  call('PEXPIRE', HELD, KEPT)
  call('PEXPIRE', PAST, KEPT)
end

-- End the leases that are over; their reservations then have spent the tokens of the last renewal.
local function expire(now)
  for _, id in ipairs(call('ZRANGEBYSCORE', LEASES, '-inf', now)) do
    local reservation = read(id)
    if reservation then
      charge(reservation, -reservation.tokens, reservation.used)
    end
    call('ZREM', LEASES, id)
    call('ZADD', PAST, now + REMEMBERED, id)
    call('PEXPIRE', PAST, KEPT)
  end
end

-- Forget expired reservations and tombstones that are too old.
local function forget(now)
  for _, id in ipairs(call('ZRANGEBYSCORE', PAST, '-inf', now)) do
    call('HDEL', HELD, id)
    call('ZREM', PAST, id)
  end
end

-- Drop days and months that no budget needs any more; called on the first reservation of a day.
local function trim(day)
  local month = month_of(day)
  for _, field in ipairs(call('HKEYS', BUDGET)) do
    local of_day = tonumber(string.match(field, 'day:(%d+):')
      or string.match(field, '^given:.*:(%d+)$') or string.match(field, '^forgiven:.*:day:(%d+)$'))
    local of_month = tonumber(string.match(field, '^month:(%d+):')
      or string.match(field, '^forgiven:.*:month:(%d+)$'))
    if of_day and of_day < day - 62 or of_month and of_month < month - 1 then
      call('HDEL', BUDGET, field)
    end
  end
end

-- Return the fields of a `KeyUsage`: admissions, ms until the newest of them leaves the window,
-- open, tokens of the day, of the month, ms left of the day, of the month.
local function usage(now, day, admissions, newest, opened, of_day, of_month)
  return string.format('%d %.0f %d %.0f %.0f %.0f %.0f', admissions,
    newest and newest + WINDOW - now or 0, opened, of_day, of_month, (day + 1) * DAY - now,
    month_ends(now))
end
