-- The changes that operators make are records of the same chains: `change` is their kind, NULL that of
-- a request. Writers and readers wait meanwhile, so all locks are taken at once, for a moment or not
-- at all.
SET LOCAL lock_timeout = '300ms';
SET LOCAL statement_timeout = '400ms';
LOCK TABLE gateway_audit IN ACCESS EXCLUSIVE MODE;
ALTER TABLE gateway_audit ADD COLUMN kind text;

-- No sum counts a change. All else is as in 0005, where the reasons stand.
CREATE OR REPLACE FUNCTION gateway_audit_count() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO gateway_audit_sums AS sums
    SELECT sha256(convert_to(
            ROW (to_char(day, 'YYYY-MM-DD'),
                key_id, key_name, end_user, model, backend, outcome, tokens_source)::text,
            'UTF8')) AS id, *
    FROM (
        SELECT (started_at AT TIME ZONE 'UTC')::date AS day,
            key_id, key_name, end_user, model, backend, outcome, tokens_source, count(*),
            coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0),
            coalesce(sum(least(cached_tokens, coalesce(prompt_tokens, 0)))
                FILTER (WHERE cached_tokens IS NOT NULL), 0),
            coalesce(sum(prompt_tokens) FILTER (WHERE cached_tokens IS NOT NULL), 0),
            max(started_at)
        FROM arrived WHERE kind IS NULL GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
    ) AS counts ORDER BY id
    ON CONFLICT (id) DO UPDATE SET
        requests = sums.requests + excluded.requests,
        prompt_tokens = sums.prompt_tokens + excluded.prompt_tokens,
        completion_tokens = sums.completion_tokens + excluded.completion_tokens,
        cached_tokens = sums.cached_tokens + excluded.cached_tokens,
        cached_of_tokens = sums.cached_of_tokens + excluded.cached_of_tokens,
        last_began = greatest(sums.last_began, excluded.last_began);
    RETURN NULL;
END $$;
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION gateway_audit_count() SET search_path = %I, pg_temp',
        current_schema());
END $$;
