"""The limits of keys: `quota.py` defines them, `leases.py` applies them to requests."""
