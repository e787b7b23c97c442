-- ARGV: offset, request id, tokens used, carried (1: the reservation was open when Redis lost it),
-- day, month, tokens reserved, unanswered (1: the caller never got the grant), sent twice (1: the
-- reservation may still come)
-- Returns the state it found: "open", "expired", "ended" or "unknown".
local id, used = ARGV[2], tonumber(ARGV[3])
if ARGV[8] == '1' then
  call('ZREM', RATE, id)
end
local reservation, has_ended = read(id)
if reservation and call('ZREM', LEASES, id) == 1 then
  charge(reservation, -reservation.tokens, used)
  -- Without a tombstone, a repetition would find nothing and charge or reserve again.
  if ARGV[4] == '1' or ARGV[9] == '1' then
    leave_tombstone(id, clock(ARGV[1]))
  else
    call('HDEL', HELD, id)
  end
  return 'open'
end
if has_ended then
  return 'ended'
end
local now = clock(ARGV[1])
if reservation then
  charge(reservation, 0, used - reservation.used)
  leave_tombstone(id, now)
  return 'expired'
end
if ARGV[4] == '1' then
  charge({ tokens = tonumber(ARGV[7]), day = ARGV[5], month = ARGV[6] }, 0, used)
  call('PEXPIRE', BUDGET, KEPT)
end
leave_tombstone(id, now)
return 'unknown'
