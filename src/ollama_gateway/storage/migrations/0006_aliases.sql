-- The aliases of a key: JSON, a table of lists of model names by alias; NULL if it has none.
ALTER TABLE gateway_keys ADD COLUMN aliases text;
