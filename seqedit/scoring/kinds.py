"""The names under which measurements are stored in a ledger."""

from __future__ import annotations

KIND_SCORES = "counterfact"
KIND_TASKS = "tasks"
KIND_OUTCOMES = "samples"
KIND_FORGETTING = "forgetting"
KIND_RECORDS = "records"
KIND_ANSWERS = "answers"
KIND_TIMINGS = "seconds"
KIND_DIAGNOSIS = "diagnosis"
KIND_DRIFT = "drift"
KIND_GATES = "gates"
KIND_BASELINE = "baseline"
"""Averages of the unedited model over the facts of the run that made an entry: "counterfact" -> {score: value}."""
KIND_FIXED = "fixed"
"""Scores of a fixed set of records or texts: "<metric>:<digest of the set>" -> value."""
