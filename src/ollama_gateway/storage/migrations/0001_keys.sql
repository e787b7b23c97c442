-- API keys, and the SHA-256 digests of their texts: of a key that is being rotated, several.
-- Times and limits are as in docs/operate/limits.md and `keys/key.py`; NULL limits are the settings' own.

CREATE TABLE gateway_keys (
    id text PRIMARY KEY,
    place bigint GENERATED ALWAYS AS IDENTITY,
    name text NOT NULL,
    models text[] NOT NULL,
    endpoints text[] NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    user_header text,
    requests_per_minute bigint,
    concurrent_requests bigint,
    tokens_per_day bigint,
    tokens_per_month bigint
);

CREATE INDEX gateway_keys_by_name ON gateway_keys (name);
CREATE UNIQUE INDEX gateway_keys_living_name ON gateway_keys (name) WHERE revoked_at IS NULL;

CREATE TABLE gateway_key_secrets (
    digest text PRIMARY KEY,
    key_id text NOT NULL REFERENCES gateway_keys (id),
    expires_at timestamptz
);

CREATE INDEX gateway_key_secrets_by_key ON gateway_key_secrets (key_id);
