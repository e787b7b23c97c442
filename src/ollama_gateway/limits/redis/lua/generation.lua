-- KEYS: the generation. ARGV: offset, a new generation's name, milliseconds until it opens
-- Returns the generation in force as "NAME:OPENS"; if there is none, Redis has lost everything, and
-- this call begins one.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]
redis.call('SET', KEYS[1], string.format('%s:%.0f', ARGV[2], now + ARGV[3]), 'NX')
return redis.call('GET', KEYS[1])
