-- Admin tokens: the SHA-256 digests of their texts, and what their holders may do (`keys/admin_tokens.py`).

CREATE TABLE gateway_admin_tokens (
    digest text PRIMARY KEY,
    place bigint GENERATED ALWAYS AS IDENTITY,
    name text NOT NULL,
    role text NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz
);

CREATE UNIQUE INDEX gateway_admin_tokens_living_name ON gateway_admin_tokens (name)
    WHERE revoked_at IS NULL;
