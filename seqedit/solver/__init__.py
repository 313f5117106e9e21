"""The closed form: R, K and C to a low-rank delta; preconditioners; protected keys."""
