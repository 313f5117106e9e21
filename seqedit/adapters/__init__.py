"""A batch of edits as a PEFT directory; sums, merges, model card."""
