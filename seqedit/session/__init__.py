"""A model and its ledger kept in step: edit, swap, merge, rebase, bisect, diff."""
