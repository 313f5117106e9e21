"""Verbs that ask and change history."""
