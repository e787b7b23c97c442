-- ARGV: offset, a usage journal's id, 1 to set the rate back, the day, the month (0: not), then what the
-- journal has forgiven already: period, tokens
-- Sets usage back to zero, and notes under the journal how much that was, so that neither this nor the
-- journal's contribution takes it off twice. What has not ended stays: open reservations, and the
-- charges of expired ones, which their ends may still correct. Returns "forgiven DAY TOKENS MONTH TOKENS": the periods,
-- and all that the journal has forgiven of each.
local now = clock(ARGV[1])
expire(now)
local known = {}
for i = 6, #ARGV, 2 do
  known[ARGV[i]] = tonumber(ARGV[i + 1])
end

local held = {}
for _, id in ipairs(call('ZRANGE', PAST, 0, -1)) do
  local reservation = read(id)
  if reservation and reservation.tokens > 0 then
    for _, period in ipairs({ 'day:' .. reservation.day, 'month:' .. reservation.month }) do
      held[period] = (held[period] or 0) + reservation.used
    end
  end
end

local function forgive(period, is_wanted)
  local field = 'forgiven:' .. ARGV[2] .. ':' .. period
  local total = math.max(number(call('HGET', BUDGET, field)), known[period] or 0)
  local ended = number(call('HGET', BUDGET, period .. ':spent')) - (held[period] or 0)
  if is_wanted and ended > 0 then
    total = total + ended
    call('HINCRBY', BUDGET, period .. ':spent', -ended)
  end
  call('HSET', BUDGET, field, string.format('%.0f', total))
  return total
end

if ARGV[3] == '1' then
  call('DEL', RATE)
end
local day = math.floor(now / DAY)
local month = month_of(day)
local of_day = forgive('day:' .. day, ARGV[4] == '1')
local of_month = forgive('month:' .. month, ARGV[5] == '1')
call('PEXPIRE', BUDGET, KEPT)
return string.format('forgiven %d %.0f %d %.0f', day, of_day, month, of_month)
