"""Reading the audit log, from the journals of this machine and from PostgreSQL."""
