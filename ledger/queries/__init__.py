"""Questions put to the database: histories, names, branches, blame."""
