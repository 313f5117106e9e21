"""A state as something to give away: whole checkpoint, truncated adapter, card, Hub."""
