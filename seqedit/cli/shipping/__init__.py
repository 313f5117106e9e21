"""Verbs that give a state away and that look after a ledger."""
