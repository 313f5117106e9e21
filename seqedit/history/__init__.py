"""Where a ledger stands, and entries of other branches taken over; a model is loaded only where something is solved."""
