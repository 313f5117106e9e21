"""A part of a ledger as one file."""
