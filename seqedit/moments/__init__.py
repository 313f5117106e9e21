"""C0: measured over plain text, stored, judged."""
