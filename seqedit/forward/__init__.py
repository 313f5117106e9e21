"""Running any causal LM whole or in part: hooks, batches, prefix trees, fixed past, trials."""
