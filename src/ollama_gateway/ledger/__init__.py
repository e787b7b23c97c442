"""The trail: `record.py` says what a row is, `audit.py` puts together what stores it."""
