"""Several methods on the same facts, and sets of cases: what is scored beside a run, each by the run's own parts."""
