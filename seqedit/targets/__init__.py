"""Target values z, by gradient descent at the lookup token."""
