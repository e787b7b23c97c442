-- ARGV: offset, request id, lease, not after (0: always), requests per minute, at once, tokens per
-- day, per month, prompt, output, smallest output, has places (1: rate and concurrency are reserved
-- already, and tokens are added to them)
-- Returns "granted TOKENS DAY MONTH" or "refused LIMIT WAIT", and the usage; or "late".
local now = clock(ARGV[1])
local id, lease, not_after = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local per_minute, at_once = tonumber(ARGV[5]), tonumber(ARGV[6])
local per_day, per_month = tonumber(ARGV[7]), tonumber(ARGV[8])
local prompt, output, min_output = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local has_places = ARGV[12] == '1'
if not_after > 0 and now > not_after then
  return 'late'
end
expire(now)
forget(now)
local known, has_ended = read(id)
if known and not call('ZSCORE', LEASES, id) then
  if not has_places then
    return 'late'
  end
  reopen(id, known, now + lease)
end
if has_ended or has_places and not known then
  return 'late'
end

local day = math.floor(now / DAY)
local month = month_of(day)
call('ZREMRANGEBYSCORE', RATE, '-inf', now - WINDOW)
local admissions, opened = call('ZCARD', RATE), call('ZCARD', LEASES)
local day_reserved, day_spent, month_reserved, month_spent = budgets(day, month)
local today, this_month = day_reserved + day_spent, month_reserved + month_spent

local function newest()
  return call('ZRANGE', RATE, -1, -1, 'WITHSCORES')[2]
end
local function granted(reservation, newest_admission)
  return string.format('granted %d %s %s ', reservation.tokens, reservation.day, reservation.month)
    .. usage(now, day, admissions, newest_admission, opened, today, this_month)
end
local function refused(limit, wait)
  return string.format('refused %s %.0f ', limit, wait)
    .. usage(now, day, admissions, newest(), opened, today, this_month)
end

if known and (known.tokens > 0 or not has_places) then
  return granted(known, newest())
end
if per_minute > 0 and admissions >= per_minute and not known then
  local oldest = call('ZRANGE', RATE, -per_minute, -per_minute, 'WITHSCORES')[2]
  return refused('rate', oldest + WINDOW - now)
end
if at_once > 0 and opened >= at_once and not known then
  return refused('concurrency', SOON)
end
if per_month > 0 and this_month + prompt + min_output > per_month then
  local fits = month_spent + prompt + min_output <= per_month
  return refused('month', fits and SOON or month_ends(now))
end
if per_day > 0 and today + prompt + min_output > per_day then
  local fits = day_spent + prompt + min_output <= per_day
  return refused('day', fits and SOON or (day + 1) * DAY - now)
end

local tokens = 0
if today == 0 then
  trim(day)
end
if per_day > 0 or per_month > 0 then
  local room = math.min(per_day > 0 and per_day - today or math.huge,
    per_month > 0 and per_month - this_month or math.huge)
  tokens = prompt + math.min(output, room - prompt)
end
local last = newest
if per_minute > 0 and not known then
  call('ZADD', RATE, now, id)
  call('PEXPIRE', RATE, WINDOW)
  admissions = admissions + 1
  last = function() return now end
end
local reservation = { tokens = tokens, day = day, month = month, used = 0 }
open(id, reservation, now + lease)
charge(reservation, tokens, 0)
if opened == 0 or known then
  call('PEXPIRE', LEASES, KEPT)
  call('PEXPIRE', HELD, KEPT)
  call('PEXPIRE', BUDGET, KEPT)
end
opened, today, this_month = opened + (known and 0 or 1), today + tokens, this_month + tokens
return granted(reservation, admissions > 0 and last() or nil)
