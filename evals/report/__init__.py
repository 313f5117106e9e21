"""Pages, charts, tables of a finished run."""
