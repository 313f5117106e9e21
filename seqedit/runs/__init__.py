"""A job from a YAML file: run, compare, demo, benchmark; their callbacks and dry-run plans."""
