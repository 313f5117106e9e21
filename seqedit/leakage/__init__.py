"""What the weights of an adapter give away: the subjects of its edits, told from a list of candidates."""
