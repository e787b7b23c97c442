-- ARGV: offset, request id, tokens used, carried (1: this reservation was open when Redis lost it),
-- day, month, tokens reserved, unanswered (1: nobody was told that it was admitted)
-- Answers what it found: "open", "expired", "ended" or "unknown".
local id, used = ARGV[2], tonumber(ARGV[3])
if ARGV[8] == '1' then
  call('ZREM', RATE, id)
end
local record, has_ended = read(id)
if record and call('ZREM', LEASES, id) == 1 then
  charge(record, -record.tokens, used)
  if ARGV[4] == '1' then -- said again, it would not be known, and be charged again
    bury(id, clock(ARGV[1]))
  else
    call('HDEL', HELD, id)
  end
  return 'open'
end
if has_ended then
  return 'ended'
end
local now = clock(ARGV[1])
if record then
  charge(record, 0, used - record.used)
  bury(id, now)
  return 'expired'
end
if ARGV[4] == '1' then
  charge({ tokens = tonumber(ARGV[7]), day = ARGV[5], month = ARGV[6] }, 0, used)
  call('PEXPIRE', BUDGET, KEPT)
end
bury(id, now)
return 'unknown'
