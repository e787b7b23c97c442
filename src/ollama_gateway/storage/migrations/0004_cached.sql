-- How many of a prompt's tokens the backend had in its cache; NULL where it did not tell.
ALTER TABLE gateway_audit ADD COLUMN cached_tokens bigint;
