"""Storage that outlives a process: SQLite files, PostgreSQL, migrations and locks."""
