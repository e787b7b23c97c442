"""Backups of a data directory: made while gateways run, restored while none does."""
