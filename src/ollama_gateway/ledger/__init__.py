"""The trail: exactly one row for every request with a valid key, on every way out."""
