"""A loaded model: its parts by structure, its identity, its editable weights, partial runs."""
