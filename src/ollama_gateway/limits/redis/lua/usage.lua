-- ARGV: offset
-- Returns the use of the key.
local now = clock(ARGV[1])
expire(now)
forget(now)
call('ZREMRANGEBYSCORE', RATE, '-inf', now - WINDOW)
local day = math.floor(now / DAY)
local day_reserved, day_spent, month_reserved, month_spent = budgets(day, month_of(day))
return usage(now, day, call('ZCARD', RATE), call('ZRANGE', RATE, -1, -1, 'WITHSCORES')[2],
  call('ZCARD', LEASES), day_reserved + day_spent, month_reserved + month_spent)
