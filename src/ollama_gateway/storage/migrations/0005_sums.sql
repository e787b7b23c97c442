-- Sums of the audit records by day (UTC), key, end user, model, backend, outcome and source of the
-- tokens. A trigger keeps them, so that gateways of the version before, which do not know them, are counted too. Values may
-- be as long as clients and files make them, so a row is known by the hash of its values.
CREATE TABLE gateway_audit_sums (
    id bytea PRIMARY KEY,
    day date NOT NULL,
    key_id text,
    key_name text,
    end_user text,
    model text,
    backend text,
    outcome text,
    tokens_source text,
    requests bigint NOT NULL,
    prompt_tokens numeric NOT NULL,
    completion_tokens numeric NOT NULL,
    cached_tokens numeric NOT NULL,
    cached_of_tokens numeric NOT NULL,
    last_began timestamptz NOT NULL
);
CREATE INDEX gateway_audit_sums_by_day ON gateway_audit_sums (day);

-- The sums of the months that retention has dropped: no record can confirm them any more.
CREATE TABLE gateway_audit_past_sums (LIKE gateway_audit_sums INCLUDING ALL);

-- The records that the sums lack, by journal: those after `counted`, up to `upto`.
CREATE TABLE gateway_audit_uncounted (
    journal text PRIMARY KEY,
    counted bigint NOT NULL,
    upto bigint NOT NULL
);

-- It runs with the owner's rights, as a gateway may have none but to insert records. The rows are
-- locked in the order of their ids, so that two gateways never wait for each other.
CREATE FUNCTION gateway_audit_count() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
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
        FROM arrived GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
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
REVOKE ALL ON FUNCTION gateway_audit_count() FROM PUBLIC;

-- A table of the caller's own, such as a temporary one, must not stand in for the sums; and readers
-- of the records may read their sums.
DO $$
DECLARE reader text;
BEGIN
    EXECUTE format('ALTER FUNCTION gateway_audit_count() SET search_path = %I, pg_temp',
        current_schema());
    FOR reader IN
        SELECT DISTINCT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END
        FROM pg_class, aclexplode(relacl)
        WHERE oid = 'gateway_audit'::regclass AND privilege_type = 'SELECT'
    LOOP
        EXECUTE 'GRANT SELECT ON gateway_audit_sums, gateway_audit_past_sums,'
            || ' gateway_audit_uncounted TO ' || reader;
    END LOOP;
END $$;

-- From here on writers wait. All locks are taken at once, for a moment or not at all.
SET LOCAL lock_timeout = '300ms';
SET LOCAL statement_timeout = '400ms';
LOCK TABLE gateway_audit IN SHARE ROW EXCLUSIVE MODE;
CREATE TRIGGER gateway_audit_count AFTER INSERT ON gateway_audit
    REFERENCING NEW TABLE AS arrived
    FOR EACH STATEMENT EXECUTE FUNCTION gateway_audit_count();

-- The records of a journal arrive in order, so those that are here have the lowest numbers.
INSERT INTO gateway_audit_uncounted
WITH RECURSIVE known AS (
    (SELECT journal FROM gateway_audit ORDER BY journal LIMIT 1)
    UNION ALL SELECT (SELECT journal FROM gateway_audit AS later
        WHERE later.journal > known.journal ORDER BY journal LIMIT 1)
    FROM known WHERE known.journal IS NOT NULL
)
SELECT journal, (-9223372036854775808)::bigint,
    (SELECT seq FROM gateway_audit AS audit WHERE audit.journal = known.journal
        ORDER BY seq DESC LIMIT 1)
FROM known WHERE journal IS NOT NULL;
