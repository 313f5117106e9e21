"""Pure history: entries, graph, difference, conflicts, composition arithmetic; no database, no file."""
