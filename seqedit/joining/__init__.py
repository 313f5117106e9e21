"""How a prompt and its answer join: by one space, or by nothing."""
