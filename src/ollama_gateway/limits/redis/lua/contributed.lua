-- KEYS: who has given. ARGV: the giver, the epoch, 1 to say that it has given now
-- Answers "given" or "missing".
if ARGV[3] == '1' then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
return redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] and 'given' or 'missing'
