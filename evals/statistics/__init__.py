"""Paired changes, intervals and tests; knows numbers only."""
