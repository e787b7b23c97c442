-- ARGV: offset, lease, not after, then for each reservation: request id, tokens reserved, day,
-- month, tokens used
-- Opens again what expired or was lost; answers "renewed", or "late" and does nothing.
local now = clock(ARGV[1])
local lease, not_after = tonumber(ARGV[2]), tonumber(ARGV[3])
if not_after > 0 and now > not_after then
  return 'late'
end
expire(now)
forget(now)
for i = 4, #ARGV, 5 do
  local id = ARGV[i]
  local record = {
    tokens = tonumber(ARGV[i + 1]), day = ARGV[i + 2], month = ARGV[i + 3],
    used = tonumber(ARGV[i + 4]),
  }
  local known, has_ended = read(id)
  if not has_ended then
    if known and not call('ZSCORE', LEASES, id) then
      reopen(id, known, now + lease)
    end
    if known and known.tokens >= record.tokens then -- it may have been said before they were added
      record.tokens, record.day, record.month = known.tokens, known.day, known.month
    else
      if known then
        charge(known, -known.tokens, 0)
      end
      charge(record, record.tokens, 0)
    end
    open(id, record, now + lease)
  end
end
for _, key in ipairs({ LEASES, HELD, BUDGET }) do
  call('PEXPIRE', key, KEPT)
end
return 'renewed'
