"""Names, sentences and filler that the demo world is written with."""
