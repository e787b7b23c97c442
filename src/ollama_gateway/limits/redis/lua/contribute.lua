-- ARGV: a usage journal's id, then for each day: day, tokens spent; or for each period, as
-- "day:20781": period, tokens forgiven
-- Adds the journal's tokens of this key, less those added before, and takes off in the same way what it
-- has forgiven: so a call may be repeated, also after more was spent. Returns "added".
for i = 2, #ARGV, 2 do
  local day, tokens = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
  local field = (day and 'given:' or 'forgiven:') .. ARGV[1] .. ':' .. ARGV[i]
  local added = number(call('HGET', BUDGET, field))
  if tokens > added then
    if day then
      charge({ tokens = 1, day = day, month = month_of(day) }, 0, tokens - added)
    else
      call('HINCRBY', BUDGET, ARGV[i] .. ':spent', added - tokens)
    end
    call('HSET', BUDGET, field, ARGV[i + 1])
  end
end
call('PEXPIRE', BUDGET, KEPT)
return 'added'
