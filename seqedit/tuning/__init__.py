"""Settings for a model and a method, found on calibration facts by the cheapest evidence first."""
