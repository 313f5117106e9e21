"""UltraEdit (Gu et al. 2025, arXiv 2505.14679): the batch's gradient, normalised over all edits and solved at once."""
