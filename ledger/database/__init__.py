"""Rows in SQLite or PostgreSQL, schema and its upgrades, where a ledger lies."""
