-- ARGV: who gives, then for each day: day, tokens spent
-- Adds what one record of spending knows of this key beyond what it has given already: it may be
-- said again, also when more was spent since. Answers "added".
for i = 2, #ARGV, 2 do
  local day, tokens = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
  local field = 'given:' .. ARGV[1] .. ':' .. ARGV[i]
  local given = number(call('HGET', BUDGET, field))
  if tokens > given then
    charge({ tokens = 1, day = day, month = month_of(day) }, 0, tokens - given)
    call('HSET', BUDGET, field, ARGV[i + 1])
  end
end
call('PEXPIRE', BUDGET, KEPT)
return 'added'
