"""The content-addressed store, local and remote."""
