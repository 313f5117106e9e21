"""CounterFact and zsRE scores and generation."""
