"""Verbs that measure a model, a state or a whole run."""
