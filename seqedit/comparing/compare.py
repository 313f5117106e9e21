"""Several methods on the same facts: each a branch of one ledger, scored where all its batches are in force."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from evals.likelihood.divergence import score_divergence
from evals.likelihood.perplexity import score_perplexity
from evals.report.comparison import (
    COLUMNS,
    ZSRE_COLUMNS,
    Cell,
    ComparisonRow,
    csv_text,
    latex,
    markdown,
    missing_notes,
    notes_text,
)
from evals.report.comparison_plot import plot_comparison
from evals.report.figures import write_png
from evals.scores.counterfact import score_records
from evals.scores.generation import fit_vectorizer, missing_scores, score_generation
from evals.scores.intervals import score_intervals
from evals.scores.probes import MAIN_COLUMNS, in_order, missing_columns
from evals.scores.scores import Scores
from evals.statistics.chance import warn_of_chance
from evals.statistics.changes import task_changes
from evals.statistics.classification import WEIGHTED
from evals.statistics.outcomes import TaskResult
from evals.statistics.resampling import percentile_interval
from evals.tasks.tasks import LoadedTasks, evaluate_tasks, load_tasks
from ledger import Ledger
from seqedit.comparing.compare_config import CompareConfig
from seqedit.comparing.independent import score_independent
from seqedit.editing.rule import Settled
from seqedit.errors import NumericsError
from seqedit.facts.requests import Record
from seqedit.models.edited import EditedModel
from seqedit.models.loading import load_model
from seqedit.parallel.ranks import Ranks
from seqedit.runs.config import RunConfig
from seqedit.runs.facts import batches_of, load_facts, reference_texts
from seqedit.runs.runner import run
from seqedit.runs.settling import OnSettled, log_settled
from seqedit.scoring.kinds import KIND_TIMINGS
from seqedit.scoring.split import SplitScoring
from seqedit.scoring.summary import write_summary
from seqedit.support.digests import json_digest
from seqedit.support.printable import escape
from seqedit.text.plain_text import TextSource

KIND_COMPARISON = "comparison"
OnRow = Callable[[ComparisonRow], None]
OnLabelSettled = Callable[[str, Settled], None]


def compare(
    config: CompareConfig,
    *,
    resume: bool = False,
    on_start: Callable[[str], None] | None = None,
    on_row: OnRow | None = None,
    records: Sequence[Record] | None = None,
    edited: EditedModel | None = None,
    ranks: Ranks | None = None,
    told: OnLabelSettled | None = None,
) -> list[ComparisonRow]:
    """Run every method and leave tables, plot and ledger under ``config.out``.

    A method that breaks off (its update is not finite, a system is singular) is scored where it stopped, on all
    facts, and its row says so.

    Args:
        config: What to compare.
        resume: Continue; finished runs and finished scores are kept.
        on_start: Called with each method's label before it runs.
        on_row: Called with each finished row.
        records: The facts, instead of reading them.
        edited: The loaded, unedited model, instead of loading it.
        ranks: Processes that do a share of the work; ``edited``, if given, is theirs (`Ranks.load_model`).
        told: Called with a method's label and its settings, where the configuration left some open.

    Returns:
        The rows: the unedited model, then the methods in their order.

    Raises:
        InputError: wrong configuration, facts or ledger.
    """
    first = next(iter(config.runs.values()))
    facts = list(records if records is not None else load_facts(first))
    facts = [record for batch in batches_of(facts, first) for record in batch]  # in the order of the run
    if edited is None:
        load = load_model if ranks is None else ranks.load_model
        edited = EditedModel(*load(first.model, dtype=first.dtype, device=first.device), name=first.model)
    tasks = compared_tasks(config)
    judge = _Judge(config, edited, facts, tasks, SplitScoring(ranks))
    rows: list[ComparisonRow] = []
    for label, run_config in config.runs.items():
        if on_start is not None:
            on_start(label)
        said_of = log_settled if told is None else partial(told, label)
        if config.independent:
            if not rows:
                rows.append(judge.unedited())
                _tell(on_row, rows[-1])
            rows.append(judge.independent(label, run_config, resume, said_of))
            _tell(on_row, rows[-1])
            write_comparison(config.out, rows, config.title, comparison_notes(config, facts))
            continue
        note = ""
        try:
            one = replace(run_config, shuffle=False)
            run(one, resume=resume, records=facts, edited=edited, ranks=ranks, told=said_of)
        except NumericsError as error:
            note = f"broke off: {error}"
        with Ledger.open(run_config.ledger, edited.base_model) as ledger:
            if not rows:
                rows.append(judge.unedited())
                _tell(on_row, rows[-1])
            try:
                rows.append(judge.row(ledger, run_config, label, note))
            except NumericsError as error:
                # What is left cannot be scored: the row says so, and the other methods are compared all the same.
                said = note or f"broke off: {error}"
                rows.append(ComparisonRow(label, {name: Cell(None) for name in rows[0].cells}, None, said))
        _tell(on_row, rows[-1])
        write_comparison(config.out, rows, config.title, comparison_notes(config, facts))
    return rows


def compared_tasks(config: CompareConfig) -> LoadedTasks | None:
    """The tasks that the last state of every method is scored on.

    Raises:
        InputError: one does not exist, or its file.
    """
    files = {name: file for name, file in config.tasks.items() if file is not None}
    return load_tasks(list(config.tasks), files, limit=config.evals.task_documents) if config.tasks else None


def _tell(on_row: OnRow | None, row: ComparisonRow) -> None:
    if on_row is not None:
        on_row(row)


def comparison_notes(config: CompareConfig, facts: Sequence[Record]) -> dict[str, str]:
    """What the table's reader has to know: score -> its convention, or why it is null."""
    notes = {}
    if config.evals.perplexity_text is not None:
        notes["perplexity, KL"] = (
            f"on {Path(config.evals.perplexity_text).name}; KL(p_unedited || p_edited), in nats per token"
        )
    if not config.evals.generation:
        return {"GE, RS": "not measured (evals: {generation: false})", **notes}
    missing = {name: f"null: {reason}" for name, reason in missing_scores(_writing(config, facts) or facts).items()}
    return {name: missing.get(name, str(config.evals.writing)) for name in ("GE", "RS")} | notes


def _writing(config: CompareConfig, facts: Sequence[Record]) -> list[Record]:
    """The facts that texts are written for."""
    return [r for r in _in_force(facts) if r.generation_prompts][: config.evals.generation_records]


def write_comparison(
    out: Path, rows: Sequence[ComparisonRow], title: str, notes: Mapping[str, str] | None = None
) -> dict[str, Path]:
    """``comparison.json``, ``.md``, ``.csv``, ``.tex`` and ``.png`` under ``out``; ``notes`` are about its columns."""
    notes = notes or {}
    out.mkdir(parents=True, exist_ok=True)
    write_summary(
        out / "comparison.json", {"title": title, "rows": [row.to_dict() for row in rows], "notes": dict(notes)}
    )
    texts = {
        "md": f"# {escape(title)}\n\n{markdown(rows)}{notes_text({**notes, **missing_notes(rows)})}",
        "csv": csv_text(rows),
        "tex": latex(rows),
    }
    paths = {"json": out / "comparison.json"}
    for kind, text in texts.items():
        paths[kind] = out / f"comparison.{kind}"
        paths[kind].write_text(text, "utf-8")
    paths["png"] = write_png(plot_comparison(rows), out / "comparison.png")
    return paths


def read_notes(out: Path) -> dict[str, str]:
    """The notes of a written comparison."""
    return dict(json.loads((out / "comparison.json").read_text("utf-8")).get("notes", {}))


class _Judge:
    """Scores a state of the ledger on all facts of the comparison."""

    def __init__(
        self, config: CompareConfig, edited: EditedModel, facts: Sequence[Record], tasks: LoadedTasks | None,
        split: SplitScoring,
    ) -> None:  # fmt: skip
        self.split = split
        self.config, self.edited, self.facts, self.tasks = config, edited, facts, tasks
        self.vectorizer = fit_vectorizer(reference_texts(next(iter(config.runs.values())), facts))
        text = config.evals.perplexity_text
        self.texts = [] if text is None else [line for line in TextSource(text) if line]
        self.baseline: dict[str, TaskResult] = {}
        self.unpaired: dict[str, str] = {}
        self.before = Scores(())

    def unedited(self) -> ComparisonRow:
        """The base model's row; its task outcomes are what the others are paired with."""
        self.edited.write({})
        if self.tasks is not None:
            self.baseline = evaluate_tasks(self.edited.model, self.edited.tokenizer, self.tasks,
                                           batch_size=self.config.evals.task_batch_size,
                                           scorer=self.split.scorer)  # fmt: skip
            warn_of_chance(self.baseline.values())
        # Batches that are edited one by one are all in force in their own model, which locality compares with this one.
        chosen = list(range(len(self.facts))) if self.config.independent else _places_in_force(self.facts)
        self.before = self._scored([self.facts[i] for i in chosen])
        kept = set(_places_in_force(self.facts))
        scores = self.before.against(self.before).subset(i for i, place in enumerate(chosen) if place in kept)
        return ComparisonRow("unedited", self._cells(scores), missing=scores.missing)

    def row(self, ledger: Ledger, run_config: RunConfig, label: str, note: str) -> ComparisonRow:
        """A method's row, from the ledger where it is there already."""
        state = ledger.branch_entry(run_config.branch)
        known = ledger.scores(state, KIND_COMPARISON).get(KIND_COMPARISON)
        measured_on = self._measured_on()
        if known is not None and known.get("measured_on") == measured_on:
            row = _with_reasons(ComparisonRow.from_dict(known["row"]))
            return replace(row, label=label, note=note or row.note)
        entries = ledger.log(state)[:-1]
        seconds = sum(ledger.scores(e.id, KIND_TIMINGS)[KIND_TIMINGS].get("edit", 0.0) for e in entries)
        edits = sum(len(e.requests) for e in entries)
        self.edited.write(ledger.compose(self.edited.base, state, only_changed=True))
        scores = self._scored(_in_force(self.facts)).against(self.before)
        cells = self._cells(scores)
        whole = "; ".join([note, *self.unpaired.values()] if note else self.unpaired.values())
        row = ComparisonRow(label, cells, seconds / edits if edits else None, whole, scores.missing)
        if not note:
            ledger.add_scores(state, KIND_COMPARISON, {"measured_on": measured_on, "row": row.to_dict()})
        return row

    def _measured_on(self) -> str:
        """SHA-256 (hex) of all that a row depends on besides its state: facts, settings, and what it is paired with."""
        paired = {name: result.to_dict() for name, result in self.baseline.items()}
        facts = [record.to_dict() for record in self.facts]
        told: dict[str, Any] = {"facts": facts, "evals": self.config.evals.to_dict(), "tasks": paired}
        # Rows of earlier versions have no such columns; those that need none are good.
        told |= {"texts": self.texts} if self.texts else {}
        told |= {"weighted": True} if any(WEIGHTED in result.told for result in self.baseline.values()) else {}
        told |= {"probes": True} if any(record.probes for record in self.facts) else {}
        return json_digest(told)

    def independent(self, label: str, run_config: RunConfig, resume: bool, told: OnSettled) -> ComparisonRow:
        """The row of a method whose batches are edited one by one."""
        batches = batches_of(self.facts, replace(run_config, shuffle=False))
        found = score_independent(run_config, self.edited, batches, run_config.out / "batches.jsonl", resume=resume,
                                  told=told)  # fmt: skip
        note = f"{found.failed} of {len(batches)} batches could not be computed" if found.failed else ""
        scores = found.scores.against(self.before)
        return ComparisonRow(label, self._fact_cells(scores), found.seconds / len(self.facts), note, scores.missing)

    def _fact_cells(self, scores: Scores) -> dict[str, Cell]:
        ends = score_intervals(scores)
        shown = [name for name in COLUMNS if name not in ("GE", "RS")]
        if scores["S"] is None:  # no true answers to compare with: zsRE's own scores are the accuracies per token
            shown += ZSRE_COLUMNS
        cells = {name: _cell(scores[name], ends[name]) for name in shown}
        probed = in_order((*MAIN_COLUMNS, *scores.columns))
        return cells | {name: _cell(scores.probed.get(name), ends.get(name)) for name in probed}

    def _scored(self, facts: Sequence[Record]) -> Scores:
        return score_records(self.edited.model, self.edited.tokenizer, facts, scorer=self.split.scorer)

    def _cells(self, scores: Scores) -> dict[str, Cell]:
        settings = self.config.evals
        cells = self._fact_cells(scores)
        if settings.generation:
            chosen = _writing(self.config, self.facts)
            written = score_generation(
                self.edited.model, self.edited.tokenizer, chosen, writing=settings.writing,
                vectorizer=self.vectorizer, generator=self.split.generator,
            )  # fmt: skip
            cells["GE"] = _mean([r.entropy for r in written.records], settings.resamples)
            cells["RS"] = _mean([r.reference for r in written.records], settings.resamples)
        return cells | self._plain_text() | self._tasks()

    def _plain_text(self) -> dict[str, Cell]:
        """Perplexity, and the divergence from the unedited model, of the state; nothing without a text."""
        if not self.texts:
            return {}
        model, tokenizer = self.edited.model, self.edited.tokenizer
        found = score_perplexity(model, tokenizer, self.texts, scorer=self.split.scorer)
        far = score_divergence(model, tokenizer, self.texts, self.edited.unedited)
        # JSON has no infinity.
        return {"perplexity": Cell(min(found.value, 1e300)), "KL": Cell(min(far.kl, 1e300))}

    def _tasks(self) -> dict[str, Cell]:
        if self.tasks is None:
            return {}
        results = evaluate_tasks(self.edited.model, self.edited.tokenizer, self.tasks,
                                 batch_size=self.config.evals.task_batch_size,
                                 scorer=self.split.scorer)  # fmt: skip
        cells = {}
        self.unpaired.clear()
        for name, result in results.items():
            change = task_changes(result, self.baseline[name], resamples=self.config.evals.resamples)
            if "change" not in change:
                self.unpaired[name] = f"{name}.{result.main_metric} cannot be paired: {change['unpaired']}"
            cells[f"{name}.{result.main_metric}"] = _paired(change, result.main_metric, "")
            if WEIGHTED in change and result.main_metric != WEIGHTED:
                cells[f"{name}.{WEIGHTED}"] = _paired(change, WEIGHTED, f"{WEIGHTED}_")
        return cells


def _in_force(facts: Sequence[Record]) -> list[Record]:
    """The facts that no later one of the sequence supersedes."""
    return [facts[position] for position in _places_in_force(facts)]


def _places_in_force(facts: Sequence[Record]) -> list[int]:
    last = {record.request.fact: position for position, record in enumerate(facts)}
    return sorted(last.values())


def _with_reasons(row: ComparisonRow) -> ComparisonRow:
    """A row of an earlier version, which had no columns of portability and locality: none of its facts asked."""
    if any(name in row.cells for name in MAIN_COLUMNS):
        return row
    return replace(row, cells={**row.cells, **dict.fromkeys(MAIN_COLUMNS, Cell(None))}, missing=missing_columns(()))


def _cell(value: float | None, ends: tuple[float, float] | None) -> Cell:
    return Cell(value) if ends is None else Cell(value, *ends)


def _paired(change: Mapping[str, Any], metric: str, prefix: str) -> Cell:
    """A task's metric; its interval is that of the change, which pairing makes narrow, around the baseline's value."""
    value = change[metric]
    if f"{prefix}change" not in change:
        return Cell(value)
    base = value - change[f"{prefix}change"]
    return Cell(value, base + change[f"{prefix}ci_low"], base + change[f"{prefix}ci_high"])


def _mean(values: Sequence[float | None], resamples: int) -> Cell:
    """Mean with the percentile bootstrap over records."""
    known = np.array([value for value in values if value is not None], dtype=np.float64)
    if not len(known):
        return Cell(None)
    draws = np.random.default_rng(0).integers(0, len(known), (resamples, len(known)))
    low, high = percentile_interval(known[draws].mean(axis=1), 0.95)
    return Cell(float(known.mean()), low, high)
