"""Options that are set once for a ledger: which there are, what they may be, and where they take effect."""
