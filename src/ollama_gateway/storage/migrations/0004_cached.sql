-- How many of a prompt's tokens the backend had in its cache; NULL where it did not tell. Writers and
-- readers wait meanwhile, so all locks are taken at once, for a moment or not at all.
SET LOCAL lock_timeout = '300ms';
SET LOCAL statement_timeout = '400ms';
LOCK TABLE gateway_audit IN ACCESS EXCLUSIVE MODE;
ALTER TABLE gateway_audit ADD COLUMN cached_tokens bigint;
