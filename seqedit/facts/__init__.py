"""Requests and records, and reading them from files, datasets and the Hub."""
