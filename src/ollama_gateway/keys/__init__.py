"""API keys: their rights, their stores, and identifying the caller by one."""
