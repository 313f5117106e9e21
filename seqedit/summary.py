"""``summary.json``: a run as read back from its ledger."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ledger import Entry, Ledger
from seqedit.evaluation import SUMMARY_METRICS
from seqedit.session import KIND_FORGETTING, KIND_RECORDS, KIND_SCORES, KIND_TASKS, KIND_TIMINGS

FORGETTING_METRIC = "ES"


def build_summary(ledger: Ledger, rev: str = "HEAD", *, title: str = "Sequential editing") -> dict[str, Any]:
    """Everything a report shows, from what the ledger holds; the same ledger gives the same summary.

    Args:
        ledger: The ledger.
        rev: The state whose history is summarised.
        title: Title of the report.

    Returns:
        The layout of design.md: baseline, steps (oldest first), and the forgetting matrix, whose rows are steps and
        whose columns are the edits in the order they were made; None where an edit was not in force or not scored.
    """
    history = ledger.log(rev)[::-1]
    root, entries = history[0], history[1:]
    edits = [e for e in entries if e.adapter is not None]
    steps = [_step(ledger, entry, number) for number, entry in enumerate(entries, 1)]
    matrix = [_row(ledger, entry, edits, FORGETTING_METRIC) for entry in entries]
    return {
        "title": title,
        "model": {"name": ledger.base_model.name, "fingerprint": ledger.base_model.fingerprint},
        "method": dict(edits[-1].method) if edits else {},
        "baseline": _baseline(ledger, root),
        "steps": steps,
        "forgetting_metric": FORGETTING_METRIC,
        "forgetting": matrix,
    }


def _baseline(ledger: Ledger, root: Entry) -> dict[str, Any]:
    scores = ledger.scores(root.id)
    before = {k: v for k, v in scores.get(KIND_SCORES, {}).items() if k in SUMMARY_METRICS}
    return {**scores.get(KIND_TASKS, {}), **({"counterfact": before} if before else {})}


def _step(ledger: Ledger, entry: Entry, number: int) -> dict[str, Any]:
    scores = ledger.scores(entry.id)
    new, timings = scores.get(KIND_SCORES, {}), scores.get(KIND_TIMINGS, {})
    return {
        "step": number,
        "entry": entry.id,
        "operation": entry.operation,
        "message": entry.message,
        "time": entry.time,
        "method": entry.method.get("name"),
        "requests": len(entry.requests),
        **{metric: new.get(metric) for metric in SUMMARY_METRICS},
        "earlier": new.get("earlier"),
        "tasks": scores.get(KIND_TASKS, {}),
        "seconds": sum(timings.values()),
        "timings": timings,
        "facts": _facts(entry, scores.get(KIND_RECORDS, {}).get("records") or []),
    }


def _facts(entry: Entry, records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Subject, prompt and targets of each request, with its likelihoods after the step where they were scored."""
    facts = []
    for position, request in enumerate(entry.requests):
        fact: dict[str, Any] = {
            "subject": request.subject,
            "prompt": request.text,
            "target_new": request.target_new,
            "target_true": request.target_true,
        }
        if position < len(records) and records[position]["rewrite"]:
            rewrite = records[position]["rewrite"][0]
            fact |= {name: rewrite[name] for name in ("nll_new", "nll_true", "argmax_correct")}
        facts.append(fact)
    return facts


def _row(ledger: Ledger, entry: Entry, edits: Sequence[Entry], metric: str) -> list[float | None]:
    found = ledger.scores(entry.id, KIND_FORGETTING).get(KIND_FORGETTING, {})
    row = [found.get(edit.id, {}).get(metric) for edit in edits]
    # Edits that are made later are not part of this row at all.
    known = {e.id for e in edits[: edits.index(entry) + 1]} if entry in edits else set(found)
    return [value for edit, value in zip(edits, row, strict=True) if edit.id in known or value is not None]


def write_summary(path: Path, summary: dict[str, Any]) -> None:
    """Write JSON so that a reader sees the whole file, old or new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(summary, file, indent=1, ensure_ascii=False)
            file.write("\n")
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
