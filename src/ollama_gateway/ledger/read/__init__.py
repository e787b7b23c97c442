"""The audit log read: from the journals of this machine and from PostgreSQL."""
