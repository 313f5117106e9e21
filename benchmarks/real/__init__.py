"""Sequential edits of real facts on real pretrained weights, from the package registry to the report."""
