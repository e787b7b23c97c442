-- Whose record of spending has a row's tokens too, so that a Redis that lost everything can be told
-- what a gateway spent whose disk is gone. Only rows of keys with a budget have one.
ALTER TABLE gateway_audit ADD COLUMN spender text;

CREATE INDEX gateway_audit_spent ON gateway_audit (started_at)
    INCLUDE (spender, key_id, prompt_tokens, completion_tokens) WHERE spender IS NOT NULL;
