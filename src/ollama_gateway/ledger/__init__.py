"""The audit log: `record.py` defines a record, `audit.py` opens the services that store them."""
