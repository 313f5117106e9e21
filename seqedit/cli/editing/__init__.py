"""Verbs that edit, and that prepare an edit."""
