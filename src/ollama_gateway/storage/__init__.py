"""What outlives a process: SQLite files, PostgreSQL, their migrations and their locks."""
