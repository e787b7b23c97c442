-- ARGV: offset, lease, not after, then for each reservation: request id, tokens reserved, day,
-- month, tokens used
-- Renews reservations, and opens expired and lost ones again. Returns "renewed"; or "late", and
-- changes nothing.
local now = clock(ARGV[1])
local lease, not_after = tonumber(ARGV[2]), tonumber(ARGV[3])
if not_after > 0 and now > not_after then
  return 'late'
end
expire(now)
forget(now)
for i = 4, #ARGV, 5 do
  local id = ARGV[i]
  local reservation = {
    tokens = tonumber(ARGV[i + 1]), day = ARGV[i + 2], month = ARGV[i + 3],
    used = tonumber(ARGV[i + 4]),
  }
  local known, has_ended = read(id)
  if not has_ended then
    if known and not call('ZSCORE', LEASES, id) then
      reopen(id, known, now + lease)
    end
    -- The renewal may have been composed before tokens were added.
    if known and known.tokens >= reservation.tokens then
      reservation.tokens, reservation.day, reservation.month = known.tokens, known.day, known.month
    else
      if known then
        charge(known, -known.tokens, 0)
      end
      charge(reservation, reservation.tokens, 0)
    end
    open(id, reservation, now + lease)
  end
end
for _, key in ipairs({ LEASES, HELD, BUDGET }) do
  call('PEXPIRE', key, KEPT)
end
return 'renewed'
