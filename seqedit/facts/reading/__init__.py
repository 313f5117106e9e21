"""What a file of facts is, how it spells its fields, and which of its records cannot be used."""
