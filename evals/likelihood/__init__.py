"""What a causal LM says: log-likelihoods, greedy text, perplexity."""
