"""Layouts of published editing benchmarks beside the first ones, a module each, and what of them is not scored."""
