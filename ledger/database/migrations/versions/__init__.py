"""One script per schema, named by its number; a released script is never changed."""
