"""What a model answers: multi-hop, ripple, real-life."""
