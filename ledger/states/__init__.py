"""Sums of deltas and their snapshots."""
