"""Causal tracing: which layers hold a fact."""
