"""``summary.json``: a run as read back from its ledger."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.forgetting import find_collapse, forgetting_curve, forgetting_matrix, half_life
from evals.scores.probes import is_column
from ledger import Entry, Ledger
from seqedit.scoring.evaluator import SUMMARY_METRICS
from seqedit.scoring.gate_evidence import KIND_FAILURE
from seqedit.scoring.kinds import (
    KIND_ANSWERS,
    KIND_BASELINE,
    KIND_DIAGNOSIS,
    KIND_DRIFT,
    KIND_GATES,
    KIND_LEARNT,
    KIND_RECORDS,
    KIND_SCORES,
    KIND_SKIPPED,
    KIND_TASKS,
    KIND_TIMINGS,
)
from seqedit.scoring.learnt import first_choices
from seqedit.scoring.state_scores import batch_scores
from seqedit.scoring.summary_types import FactSummary, RunSummary, StepSummary
from seqedit.support.writing import write_whole

FORGETTING_METRIC = "ES"


def build_summary(ledger: Ledger, rev: str = "HEAD", *, title: str = "Sequential editing") -> RunSummary:
    """Everything a report shows, from what the ledger holds; the same ledger gives the same summary.

    Args:
        ledger: The ledger.
        rev: The state whose history is summarised.
        title: Title of the report.

    Returns:
        {"title", "model", "method", "baseline", "steps" (oldest first), "forgetting_metric", "forgetting",
        "forgetting_curve", "half_life" (steps), "collapse"}, and "skipped" where records were left out as
        unusable. Row t, column i of the forgetting matrix is the score at
        step t of the edits made at step i; None where they were not in force or not scored. The curve is that of the
        batches in force at ``rev``, aged by one another.
    """
    history = ledger.log(rev)[::-1]
    # A note of what a rebase dropped is no step: its state is that of the entry before it.
    root, entries = history[0], [e for e in history[1:] if e.operation != "rebase"]
    edits = [e for e in entries if e.adapter is not None]
    answers = ledger.scores(root.id, KIND_ANSWERS).get(KIND_ANSWERS, {})
    steps = [step_of(ledger, entry, number, answers) for number, entry in enumerate(entries, 1)]
    _mark_force(steps, ledger, rev)
    matrix = forgetting_matrix(
        [[row.get(e.id, {}).get(FORGETTING_METRIC) for e in entries] for row in batch_scores(ledger, entries)]
    )
    # Age counts batches that are in force: neither a revert nor what it has taken back ages the others.
    curve = forgetting_curve(matrix, steps=[t for t, step in enumerate(steps) if step["active"]])
    summary: RunSummary = {
        "title": title,
        "model": {"name": ledger.base_model.name, "fingerprint": ledger.base_model.fingerprint},
        "method": dict(edits[-1].method) if edits else {},
        "baseline": baseline_of(ledger, root) | _of_the_runs_facts(ledger, entries),
        "steps": steps,
        "forgetting_metric": FORGETTING_METRIC,
        "forgetting": matrix,
        "forgetting_curve": [point.to_dict() for point in curve],
        "half_life": half_life(curve),
        "collapse": collapse_of(steps),
    }
    if skipped := skipped_of(steps):
        summary["skipped"] = skipped
    return summary


def skipped_of(steps: Sequence[StepSummary]) -> list[dict[str, Any]]:
    """What was left out as unusable of each source of the facts, once."""
    found = {json.dumps(step["skipped"], sort_keys=True): step["skipped"] for step in steps if step.get("skipped")}
    return list(found.values())


def collapse_of(steps: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Where gradual forgetting turns into catastrophic forgetting (`evals.forgetting.find_collapse`).

    Looked at are ES and S of all earlier edits, NS, and every task's main metric in points (x 100).

    Args:
        steps: The steps of a summary; those without scores (reverts) count as steps that were not measured.

    Returns:
        Series -> the collapse, its "step" as the steps are numbered; only those that collapse.
    """
    series: dict[str, list[float | None]] = {
        "earlier.ES": [(step.get("earlier") or {}).get("ES") for step in steps],
        "earlier.S": [(step.get("earlier") or {}).get("S") for step in steps],
        "earlier.NS": [(step.get("earlier") or {}).get("NS") for step in steps],
    }
    for task in dict.fromkeys(name for step in steps for name in step["tasks"]):
        rows = [step["tasks"].get(task) or {} for step in steps]
        metric = next((row["metric"] for row in rows if "metric" in row), None)
        if metric is not None:
            points = -100 if any(row.get("lower_is_better") for row in rows) else 100  # a collapse is a fall
            series[f"{task}.{metric}"] = [None if metric not in row else points * row[metric] for row in rows]
    found = {name: find_collapse(values) for name, values in series.items()}
    return {name: collapse.to_dict() for name, collapse in found.items() if collapse is not None}


def baseline_of(ledger: Ledger, root: Entry) -> dict[str, Any]:
    """Tasks and averages of the unedited model, as the summary has them."""
    scores = ledger.scores(root.id)
    before = {k: v for k, v in scores.get(KIND_SCORES, {}).items() if k in SUMMARY_METRICS or is_column(k)}
    return {**scores.get(KIND_TASKS, {}), **({"counterfact": before} if before else {})}


def _of_the_runs_facts(ledger: Ledger, entries: Sequence[Entry]) -> dict[str, Any]:
    """The baseline that a history's last run has noted, if any; the root's is that of the ledger's last run."""
    rows = ledger.log_rows(entries[-1].id, kinds=(KIND_BASELINE,)) if entries else []
    found = [row["scores"][KIND_BASELINE] for row in rows if KIND_BASELINE in row["scores"]]
    return {"counterfact": found[0]["counterfact"]} if found else {}


def step_of(ledger: Ledger, entry: Entry, number: int = 0, before: Mapping[str, str] | None = None) -> StepSummary:
    """A step of the summary.

    Args:
        ledger: The ledger.
        entry: The step's entry.
        number: Its number, from 1.
        before: Digest of a request -> the unedited model's answer.
    """
    scores = ledger.scores(entry.id)
    new, timings = scores.get(KIND_SCORES, {}), scores.get(KIND_TIMINGS, {})
    records = scores.get(KIND_RECORDS, {}).get("records") or []
    return {
        "step": number,
        "entry": entry.id,
        "operation": entry.operation,
        "targets": list(entry.targets),
        "message": entry.message,
        "time": entry.time,
        "method": entry.method.get("name"),
        "requests": len(entry.requests),
        **{metric: new.get(metric) for metric in SUMMARY_METRICS},  # type: ignore[typeddict-item]
        **{name: value for name, value in new.items() if is_column(name)},  # type: ignore[typeddict-item]
        **({"missing": new["missing"]} if "missing" in new else {}),  # type: ignore[typeddict-item]
        "generation": new.get("generation"),
        "intervals": new.get("intervals"),
        "generated": new.get("generated"),
        "diagnosis": scores.get(KIND_DIAGNOSIS),
        "learnt": scores.get(KIND_LEARNT),
        **({"skipped": scores[KIND_SKIPPED]} if KIND_SKIPPED in scores else {}),  # type: ignore[typeddict-item]
        "failure": scores.get(KIND_FAILURE, {}).get("reason"),
        "earlier": new.get("earlier"),
        "tasks": scores.get(KIND_TASKS, {}),
        "drift": scores.get(KIND_DRIFT, {}),
        "gates": list(scores.get(KIND_GATES, {}).values()),
        "seconds": sum(timings.values()),
        "timings": timings,
        "facts": _facts(entry, records, before or {}, scores.get(KIND_ANSWERS, {}), scores.get(KIND_LEARNT)),
    }


def _mark_force(steps: Sequence[StepSummary], ledger: Ledger, rev: str) -> None:
    """Which entries ("active") and which of their facts ("in_force") the state of ``rev`` still holds."""
    live = ledger.live_requests(rev)
    for step in steps:
        step["active"] = step["entry"] in live
        for position, fact in enumerate(step["facts"]):
            fact["in_force"] = position in live.get(step["entry"], ())


def _facts(
    entry: Entry,
    records: Sequence[dict[str, Any]],
    before: Mapping[str, str],
    after: Mapping[str, str],
    learnt: Mapping[str, Any] | None,
) -> list[FactSummary]:
    """Subject, prompt and targets of each request, with what the unedited and the new model answer."""
    told = first_choices(learnt) if learnt else []
    facts: list[FactSummary] = []
    for position, request in enumerate(entry.requests):
        fact: FactSummary = {
            "subject": request.subject,
            "prompt": request.text,
            "target_new": request.target_new,
            "target_true": request.target_true,
            "before": before.get(request.digest()),
            "after": after.get(request.digest()),
        }
        if position < len(records) and records[position]["rewrite"]:
            rewrite = records[position]["rewrite"][0]
            fact["nll_new"], fact["nll_true"] = rewrite["nll_new"], rewrite["nll_true"]
            fact["argmax_correct"] = rewrite["argmax_correct"]
        elif position < len(told) and (known := told[position]) is not None:
            fact["argmax_correct"] = known
        facts.append(fact)
    return facts


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Write JSON so that a reader sees the whole file, old or new."""
    write_whole(path, json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
