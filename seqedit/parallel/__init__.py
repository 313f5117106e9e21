"""Several processes on one job, with the same result."""
