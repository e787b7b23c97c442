-- KEYS: the mark that a gateway is adding contributions; it lasts half a second. Returns "filling".
redis.call('SET', KEYS[1], 1, 'PX', 500)
return 'filling'
