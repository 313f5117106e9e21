"""Texts as token ids: rows of plain text, tokenization, the lookup token."""
