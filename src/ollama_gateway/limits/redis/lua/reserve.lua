-- ARGV: offset, request id, lease, not after (0: always), requests per minute, at once, tokens per
-- day, per month, prompt, generation, least, has places (1: rate and concurrency are reserved
-- already, and tokens are added to that)
-- Answers "granted TOKENS DAY MONTH" or "refused LIMIT WAIT", and the usage; or "late".
local now = clock(ARGV[1])
local id, lease, not_after = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local per_minute, at_once = tonumber(ARGV[5]), tonumber(ARGV[6])
local per_day, per_month = tonumber(ARGV[7]), tonumber(ARGV[8])
local prompt, generation, least = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local has_places = ARGV[12] == '1'
if not_after > 0 and now > not_after then
  return 'late'
end
expire(now)
forget(now)
local said, has_ended = read(id)
if said and not call('ZSCORE', LEASES, id) then
  if not has_places then
    return 'late'
  end
  reopen(id, said, now + lease)
end
if has_ended or has_places and not said then
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
local function granted(record, newest_admission)
  return string.format('granted %d %s %s ', record.tokens, record.day, record.month)
    .. usage(now, day, admissions, newest_admission, opened, today, this_month)
end
local function refused(limit, wait)
  return string.format('refused %s %.0f ', limit, wait)
    .. usage(now, day, admissions, newest(), opened, today, this_month)
end

if said and (said.tokens > 0 or not has_places) then
  return granted(said, newest())
end
if per_minute > 0 and admissions >= per_minute and not said then
  local oldest = call('ZRANGE', RATE, -per_minute, -per_minute, 'WITHSCORES')[2]
  return refused('rate', oldest + WINDOW - now)
end
if at_once > 0 and opened >= at_once and not said then
  return refused('concurrency', SOON)
end
if per_month > 0 and this_month + prompt + least > per_month then
  return refused('month', month_spent + prompt + least <= per_month and SOON or month_ends(now))
end
if per_day > 0 and today + prompt + least > per_day then
  return refused('day', day_spent + prompt + least <= per_day and SOON or (day + 1) * DAY - now)
end

local tokens = 0
if today == 0 then
  trim(day)
end
if per_day > 0 or per_month > 0 then
  local room = math.min(per_day > 0 and per_day - today or math.huge,
    per_month > 0 and per_month - this_month or math.huge)
  tokens = prompt + math.min(generation, room - prompt)
end
local last = newest
if per_minute > 0 and not said then
  call('ZADD', RATE, now, id)
  call('PEXPIRE', RATE, WINDOW)
  admissions = admissions + 1
  last = function() return now end
end
local record = { tokens = tokens, day = day, month = month, used = 0 }
open(id, record, now + lease)
charge(record, tokens, 0)
if opened == 0 or said then
  call('PEXPIRE', LEASES, KEPT)
  call('PEXPIRE', HELD, KEPT)
  call('PEXPIRE', BUDGET, KEPT)
end
opened, today, this_month = opened + (said and 0 or 1), today + tokens, this_month + tokens
return granted(record, admissions > 0 and last() or nil)
