"""Verify, collect garbage, sign."""
