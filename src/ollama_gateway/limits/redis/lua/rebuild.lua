-- KEYS: the sign that somebody is adding what was spent. Answers "filling".
redis.call('SET', KEYS[1], 1, 'PX', 500)
return 'filling'
