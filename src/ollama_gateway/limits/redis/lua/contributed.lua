-- KEYS: the contributions. ARGV: a usage journal's id, the generation, 1 to mark it as added now
-- Returns "given" if the journal was added in this generation, else "missing".
if ARGV[3] == '1' then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
return redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] and 'given' or 'missing'
