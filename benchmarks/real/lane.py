"""One method after the other on the same facts: each a run with a ledger of its own, tasks at some of its states."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evals.report.report import write_report
from evals.scores.counterfact import score_records
from evals.scores.intervals import score_intervals
from evals.tasks.examples import TaskRows
from evals.tasks.tasks import LoadedTasks, load_tasks
from ledger import Ledger
from seqedit.editing.settings import method_config
from seqedit.facts.requests import Record
from seqedit.models.edited import EditedModel
from seqedit.moments.providing import SecondMomentSettings
from seqedit.runs.config import RunConfig
from seqedit.runs.runner import run
from seqedit.scoring.evaluator import Evaluator
from seqedit.scoring.kinds import KIND_DRIFT, KIND_TIMINGS
from seqedit.scoring.settings import EvalSettings
from seqedit.scoring.summary import write_summary
from seqedit.scoring.summary_types import StepSummary
from seqedit.session.evaluate import evaluate_state
from seqedit.session.session import Session
from seqedit.support.digests import json_digest

_LOG = logging.getLogger(__name__)
PRESET = "smollm2-135m"


@dataclass(frozen=True)
class Variant:
    """A method with what differs from the preset."""

    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)


VARIANTS: Mapping[str, Variant] = {
    "emmet": Variant("emmet"),
    "memit": Variant("memit"),
    "memit unprotected": Variant("memit", {"protect_earlier": False}),
    "alphaedit": Variant("alphaedit"),
    "rome": Variant("rome"),
    "ft": Variant("ft"),
    "lora": Variant("lora", {"learning_rate": 2e-3}),
}
"""Label -> what is run."""


@dataclass(frozen=True)
class Lane:
    """What all methods share.

    Attributes:
        edited: The unedited model.
        records: The facts, in the order in which they are edited.
        batch_size: Facts per step.
        text: Plain text for second moments.
        perplexity: Plain text whose perplexity is measured at every step.
        tasks: lm-eval tasks on local rows.
        tasks_every: At every so many steps, and at the last, tasks are scored.
        earlier: So many earlier edits are drawn and scored at every step; None for all.
        out: Folder of what comes out.
    """

    edited: EditedModel
    records: Sequence[Record]
    batch_size: int
    text: Path
    perplexity: Path
    tasks: Mapping[str, TaskRows]
    tasks_every: int
    earlier: int | None
    out: Path


def run_variant(lane: Lane, label: str, variant: Variant) -> Path:
    """Edit all batches by one method, score every step, and write the report; what is there already is kept.

    Returns:
        The report.
    """
    out = lane.out / label.replace(" ", "-")
    out.mkdir(parents=True, exist_ok=True)
    config = RunConfig(
        model=lane.edited.base_model.name, facts=label, method=variant.method,
        settings=method_config(variant.method, preset=PRESET, settings=dict(variant.settings)),
        batch_size=lane.batch_size, ledger=str(out / "ledger"), out=out,
        second_moments=SecondMomentSettings(text=str(lane.text), max_tokens=20_000),
        evals=EvalSettings(generation=False, perplexity_text=str(lane.perplexity), earlier_records=lane.earlier),
        title=f"SmolLM2-135M-Instruct (real weights): {label}",
    )  # fmt: skip
    lane.edited.write({})
    resume = (out / "ledger").is_dir()
    summary = run(config, resume=resume, records=lane.records, edited=lane.edited, on_step=lambda s: _say(label, s))
    if lane.tasks:
        loaded = load_tasks(list(lane.tasks), dict(lane.tasks))
        known = _tasks(lane, config, loaded, out / "tasks.json")
        for step in summary["steps"]:
            step["tasks"] = known.get(step["entry"], {}).get("tasks") or step["tasks"]
        for found in known.values():  # what the unedited model has, with its chance
            summary["baseline"] |= {name: found["baseline"][name] for name in lane.tasks}
        write_summary(out / "summary.json", summary)
    _final(lane, config, out / "final.json")
    return write_report(summary, out)


def _tasks(lane: Lane, config: RunConfig, tasks: LoadedTasks, file: Path) -> dict[str, Any]:
    """Entry -> its step and tasks, at some of the states; written after each, and taken from the file where there."""
    known: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    silent = EvalSettings(counterfact=False, generation=False, drift=False)
    with Ledger.open(config.ledger, lane.edited.base_model) as ledger:
        session = Session(lane.edited, ledger, None)
        evaluator = Evaluator(lane.edited.tokenizer, silent, tasks=tasks)
        entries = ledger.log(session.tip)[::-1][1:]
        for step, entry in enumerate(entries, 1):
            if entry.id in known or (step % lane.tasks_every and step != len(entries)):
                continue
            scores = evaluate_state(session, evaluator, entry.id)
            known[entry.id] = {"step": step, "tasks": scores.step["tasks"], "baseline": scores.baseline}
            write_summary(file, known)
            _LOG.info("step %d: %s", step, str(scores).replace("\n", " "))
        session.edited.write({})
    return known


def _final(lane: Lane, config: RunConfig, file: Path) -> None:
    """All facts of the run on its last state, with intervals, and what an edit took."""
    with Ledger.open(config.ledger, lane.edited.base_model) as ledger:
        state = ledger.branch_entry(config.branch)
        if file.is_file() and json.loads(file.read_text("utf-8"))["state"] == state:
            return
        drift = ledger.scores(ledger.root(), KIND_DRIFT).get(KIND_DRIFT, {})
        timings = [ledger.scores(e.id, KIND_TIMINGS).get(KIND_TIMINGS, {}) for e in ledger.log(state)]
        lane.edited.write(ledger.compose(lane.edited.base, state, only_changed=True))
        known = _all_facts(lane) | {
            "state": state, "edit_seconds": sum(row.get("edit", 0.0) for row in timings),
            "unedited_perplexity": drift.get("perplexity"),
        }  # fmt: skip
    lane.edited.write({})
    write_summary(file, known)


def unedited(lane: Lane) -> None:
    """All facts on the unedited model, once for all methods."""
    file = lane.out / "unedited.json"
    asked = json_digest([lane.edited.base_model.fingerprint, [record.to_dict() for record in lane.records]])
    if not file.is_file() or json.loads(file.read_text("utf-8")).get("asked") != asked:
        lane.edited.write({})
        write_summary(file, _all_facts(lane) | {"asked": asked})


def _all_facts(lane: Lane) -> dict[str, Any]:
    last = {record.request.fact: record for record in lane.records}  # a fact that a later one supersedes is not asked
    scores = score_records(lane.edited.model, lane.edited.tokenizer, list(last.values()))
    return {
        "records": len(lane.records),
        "facts": len(last),
        "scores": dict(scores.summary),
        "intervals": score_intervals(scores),
    }


def _say(label: str, step: StepSummary) -> None:
    earlier = (step["earlier"] or {}).get("ES")
    shown = ", ".join(f"{n} {step.get(n):.0f}" for n in ("ES", "EM", "PS", "NS", "S") if step.get(n) is not None)
    _LOG.info(
        "%s step %d: %s; earlier ES %s; perplexity %.2f; %.0f s", label, step["step"], shown,
        "-" if earlier is None else f"{earlier:.0f}", step["drift"].get("perplexity", float("nan")), step["seconds"],
    )  # fmt: skip
