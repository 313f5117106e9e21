"""The demo world's facts written in the layouts of the field's data sets."""
