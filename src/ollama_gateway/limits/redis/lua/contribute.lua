-- ARGV: a usage journal's id, then for each day: day, tokens spent
-- Adds the journal's tokens of this key, less those added before: so a call may be repeated, also
-- after more was spent. Returns "added".
for i = 2, #ARGV, 2 do
  local day, tokens = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
  local field = 'given:' .. ARGV[1] .. ':' .. ARGV[i]
  local added = number(call('HGET', BUDGET, field))
  if tokens > added then
    charge({ tokens = 1, day = day, month = month_of(day) }, 0, tokens - added)
    call('HSET', BUDGET, field, ARGV[i + 1])
  end
end
call('PEXPIRE', BUDGET, KEPT)
return 'added'
