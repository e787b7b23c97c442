-- ARGV: who gives, then for each day: day, tokens spent
-- Adds what one record of spending knows of this key, once; answers "added" or "known".
if call('HSETNX', BUDGET, 'given:' .. ARGV[1], 1) == 0 then
  return 'known'
end
for i = 2, #ARGV, 2 do
  local day = tonumber(ARGV[i])
  charge({ tokens = 1, day = day, month = month_of(day) }, 0, tonumber(ARGV[i + 1]))
end
call('PEXPIRE', BUDGET, KEPT)
return 'added'
