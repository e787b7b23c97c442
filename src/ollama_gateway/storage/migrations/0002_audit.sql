-- The audit trail of a fleet: finished rows as the journals had them, with what is filtered and
-- summed as columns. PostgreSQL wants the partition's column in a primary key.
CREATE TABLE gateway_audit (
    request_id text NOT NULL,
    started_at timestamptz NOT NULL,
    journal text NOT NULL,
    seq bigint NOT NULL,
    hash bytea NOT NULL,
    document text NOT NULL,
    key_id text,
    key_name text,
    end_user text,
    endpoint text,
    model text,
    backend text,
    outcome text,
    reason text,
    prompt_tokens bigint,
    completion_tokens bigint,
    tokens_source text,
    PRIMARY KEY (request_id, started_at)
) PARTITION BY RANGE (started_at);

-- What no month's partition was made for in time is kept all the same.
CREATE TABLE gateway_audit_default PARTITION OF gateway_audit DEFAULT;

CREATE INDEX gateway_audit_started_at ON gateway_audit (started_at);
CREATE INDEX gateway_audit_chain ON gateway_audit (journal, seq);

-- The last row of each journal that retention has dropped: its chain goes on from there.
CREATE TABLE gateway_audit_anchors (
    journal text PRIMARY KEY,
    seq bigint NOT NULL,
    hash bytea NOT NULL
);
