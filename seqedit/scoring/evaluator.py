"""What is measured after every step of a run, on the model as it stands."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from evals.likelihood.decoding import Generator, generate
from evals.likelihood.divergence import Unedited, score_divergence
from evals.likelihood.perplexity import score_perplexity
from evals.likelihood.teacher_forcing import Scorer, score_continuations
from evals.scores.counterfact import ScoredContent, TokenizedRecord, score_tokenized, scored_content, tokenize_records
from evals.scores.generation import fit_vectorizer, missing_scores, score_generation
from evals.scores.intervals import Estimate, estimated_scores
from evals.scores.probes import TokenizedProbe
from evals.scores.scores import METRICS, RecordScore, Scores
from evals.scores.survey import RecordSample, choose_records, estimate_scores
from evals.statistics.chance import unedited_row
from evals.statistics.changes import task_changes
from evals.statistics.measures import Aggregation
from evals.statistics.outcomes import TaskResult
from evals.tasks.tasks import LoadedTasks, evaluate_tasks
from seqedit.facts.requests import Record
from seqedit.forward.finite import check_metrics
from seqedit.forward.protocols import CausalLM, Tokenizer
from seqedit.scoring.settings import EvalSettings
from seqedit.text.chat import put_to_model

NEWEST = ""
"""For `Evaluator.step`: the new batch is the last in composing order."""


@dataclass(frozen=True)
class Batch:
    """An entry's records, to be scored.

    Attributes:
        entry: Id of the entry.
        records: Its records.
        live: Positions of the records whose fact no later batch has superseded.
    """

    entry: str
    records: Sequence[Record]
    live: Sequence[int]


@dataclass(frozen=True)
class ScoredFacts:
    """Records that were scored, with what each of them got.

    Attributes:
        records: The records.
        scores: Their scores, in the same order.
        sample: How they were chosen from the facts in force; None for a whole batch.
    """

    records: Sequence[Record]
    scores: Scores
    sample: RecordSample | None = None


@dataclass
class StepScores:
    """What was measured at one step, as JSON types.

    Attributes:
        new: `SUMMARY_METRICS` of the newest batch (GE and RS where generation is on), per-prompt values under
            "records"; "generation" says which texts GE and RS are of, and why one is null. The accuracies per token
            (ET, PT, NT) cost nothing more.
        earlier: The same averages over all earlier batches, with "requests", of which "scored" were scored, and
            "intervals"; None at the first step.
        by_entry: Entry id -> averages over its live records, with "answered" and "missed": the positions, among the
            entry's requests, of the scored facts that the model answers with the new object, and of the others.
        answers: Digest of a request -> what the model says next, greedily.
        tasks: Task name -> main metric, change to the baseline and its interval, other metrics.
        outcomes: Task name -> per-document outcomes.
        drift: Perplexity of plain text, KL(unedited || edited) on it and, where a session measures them, drift of
            weights, outputs and values.
        timings: Seconds of each part.
        scored_new, scored_earlier: Records and scores behind "new" and "earlier"; no JSON, and not recorded.
    """

    new: dict[str, Any] = field(default_factory=dict)
    earlier: dict[str, Any] | None = None
    by_entry: dict[str, dict[str, Any]] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    outcomes: dict[str, Any] = field(default_factory=dict)
    drift: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    scored_new: ScoredFacts | None = None
    scored_earlier: ScoredFacts | None = None


class Evaluator:
    """Scores a model the same way at every step: the same records, tasks, documents and seeds.

    Args:
        tokenizer: The model's tokenizer.
        settings: What to measure.
        tasks: lm-eval tasks, loaded once; None for none.
        reference_texts: All reference texts of the run, so that RS weights are the same at every step.
        texts: Plain texts whose perplexity is measured; none for none.
        seed: Seed of generation and bootstrap.
        scorer: What finds likelihoods; on several processes `seqedit.scoring.split.Split.scorer`.
        generator: What writes texts; there `Split.generator`.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        settings: EvalSettings,
        *,
        tasks: LoadedTasks | None = None,
        reference_texts: Sequence[str] = (),
        texts: Sequence[str] = (),
        seed: int = 0,
        scorer: Scorer = score_continuations,
        generator: Generator = generate,
    ) -> None:
        self.scorer, self.generator = scorer, generator
        self.texts = list(texts)
        self.tokenizer, self.settings, self.tasks, self.seed = tokenizer, settings, tasks, seed
        self.vectorizer = fit_vectorizer(reference_texts) if reference_texts else None
        self._tokenized: dict[ScoredContent, TokenizedRecord] = {}
        self._tokenized_by = tokenizer
        self._unedited: dict[tuple[TokenizedProbe, ...], RecordScore] = {}

    @property
    def task_names(self) -> list[str]:
        """Names of the tasks that are evaluated."""
        return [] if self.tasks is None else list(self.tasks.tasks)

    def aggregation(self, task: str, metric: str) -> Aggregation | None:
        """How a task makes a metric of its documents' values; None where the task is not evaluated here."""
        return self.tasks.aggregation(task, metric) if self.tasks and task in self.tasks.tasks else None

    def baseline(
        self, model: CausalLM, records: Sequence[Record], *, tasks: bool = True, texts: bool = True
    ) -> StepScores:
        """Scores of the unedited model.

        Args:
            model: The unedited model.
            records: Records to score: those of the run, or what a ledger lacks of them.
            tasks: Whether the tasks are evaluated, whose outcomes later changes are paired with.
            texts: Whether the perplexity of the plain texts is measured.
        """
        found = StepScores()
        if self.settings.counterfact and records:
            with _timed(found, "counterfact"):
                found.new = score_tokenized(model, self.tokens(records), scorer=self.scorer).to_dict()
            with _timed(found, "answers"):
                found.answers = self._answers(model, records)
        if texts:
            self._score_texts(model, found)
        if tasks:
            self._score_tasks(model, found, None)
        return found

    def step(
        self,
        model: CausalLM,
        batches: Sequence[Batch],
        baseline: Mapping[str, Any] | None,
        previous: Mapping[str, Any] | None = None,
        *,
        new: str | None = NEWEST,
        unedited: Unedited | None = None,
    ) -> StepScores:
        """Scores after a step.

        Args:
            model: The edited model.
            batches: All active batches in composing order.
            baseline: Task name -> outcomes of the unedited model.
            previous: Task name -> outcomes of the state before the step.
            new: Entry of the new batch, which a swap or merge has put anywhere among the others; None where the step
                brought none (a revert), so that all are earlier ones. By default the last in composing order.
            unedited: Gives the model its unedited weights for a while, to compare its predictions on the plain texts;
                None to leave that out.
        """
        found = StepScores()
        if new == NEWEST:
            new = batches[-1].entry if batches else None
        newest = next((batch for batch in batches if batch.entry == new), None)
        earlier = [batch for batch in batches if batch is not newest]
        if self.settings.counterfact:
            with _timed(found, "counterfact"):
                self._score_batches(model, earlier, newest, found, unedited)
            if newest is not None:
                with _timed(found, "answers"):
                    found.answers = self._answers(model, newest.records)
        if self.settings.generation and newest is not None:
            with _timed(found, "generation"):
                self._generate(model, newest, found)
        self._score_texts(model, found, unedited)
        self._score_tasks(model, found, baseline, previous)
        return found

    def tokens(self, records: Sequence[Record]) -> list[TokenizedRecord]:
        """Tokens of records, kept by what they were made of: a record made anew from an entry is found again."""
        if self._tokenized_by is not self.tokenizer:
            self._tokenized, self._tokenized_by = {}, self.tokenizer
        keys = [scored_content(record) for record in records]
        missing = {key: r for key, r in zip(keys, records, strict=True) if key not in self._tokenized}
        found = tokenize_records(self.tokenizer, missing.values())
        self._tokenized |= dict(zip(missing, found, strict=True))
        return [self._tokenized[key] for key in keys]

    def _score_batches(
        self,
        model: CausalLM,
        batches: Sequence[Batch],
        newest: Batch | None,
        found: StepScores,
        unedited: Unedited | None,
    ) -> None:
        # What is still in force: a superseded fact is not a forgotten one.
        earlier = [[b.records[i] for i in b.live] for b in batches]
        sample = choose_records(
            [[record.request.digest() for record in records] for records in earlier],
            self.settings.earlier_records, seed=self.seed,
        )  # fmt: skip
        places = [list(sample.by_batch().get(i, ())) for i in range(len(earlier))]
        chosen = [[earlier[i][j] for j in places[i]] for i in range(len(earlier))]
        first_new = sum(map(len, chosen))
        fresh = [] if newest is None else list(newest.records)
        tokens = self.tokens([*(r for records in chosen for r in records), *fresh])
        scores = score_tokenized(model, tokens, scorer=self.scorer)
        scores = self._with_locality(model, tokens, scores, unedited)
        start = 0
        for batch, records, of_batch in zip(batches, chosen, places, strict=True):
            part = scores.subset(range(start, start + len(records)))
            start += len(records)
            if records:
                positions = [batch.live[j] for j in of_batch]
                found.by_entry[batch.entry] = {
                    **part.summary,
                    **part.probed,
                    "requests": len(records),
                    **_answered(part, positions),
                }
        if newest is not None:
            # A swap keeps its place, so later batches may have superseded facts of the new batch too.
            live = scores.subset(first_new + i for i in newest.live)
            whole = scores.subset(range(first_new, first_new + len(fresh)))
            found.new = {**live.summary, **live.probed, "records": whole.to_dict()["records"]}
            if live.columns:
                found.new["missing"] = live.missing
            if newest.live:
                found.by_entry[newest.entry] = {
                    **live.summary, **live.probed, "requests": len(newest.live), **_answered(live, list(newest.live))
                }  # fmt: skip
                found.new["intervals"] = _intervals(estimated_scores(live))
                found.scored_new = ScoredFacts([fresh[i] for i in newest.live], live)
        if first_new:
            behind = [record for records in chosen for record in records]
            found.scored_earlier = ScoredFacts(behind, scores.subset(range(first_new)), sample)
            estimates = estimate_scores(sample, scores.subset(range(first_new)), of_history=not sample.exact)
            found.earlier = {
                **{name: None if e is None else e.value for name, e in estimates.items()},
                "intervals": _intervals(estimates),
                "requests": sum(sample.sizes),
                "scored": first_new,
            }

    def _with_locality(
        self, model: CausalLM, tokens: Sequence[TokenizedRecord], scores: Scores, unedited: Unedited | None
    ) -> Scores:
        """Scores with locality, for which the unedited model answers every such question once."""
        asked = [replace(t, rewrite=(), paraphrase=(), neighborhood=()) for t in tokens]
        local = [t for t in asked if any(p.kind == "locality" for p in t.probes)]
        missing = [t for t in dict.fromkeys(local) if t.probes not in self._unedited]
        if missing and unedited is not None:
            with unedited():
                before = score_tokenized(model, missing)
            self._unedited |= {t.probes: r for t, r in zip(missing, before.records, strict=True)}
        if not local or any(t.probes not in self._unedited for t in local):
            return scores
        known = (self._unedited.get(t.probes, r) for t, r in zip(asked, scores.records, strict=True))
        return scores.against(Scores(tuple(known)))

    def _generate(self, model: CausalLM, batch: Batch, found: StepScores) -> None:
        records = [r for r in batch.records if r.generation_prompts][: self.settings.generation_records]
        if not records:
            found.new["generation"] = {"missing": missing_scores(batch.records)}
            return
        scores = score_generation(
            model, self.tokenizer, records,
            writing=self.settings.writing, seed=self.seed, vectorizer=self.vectorizer,
            generator=self.generator,
        )  # fmt: skip
        found.new |= {"GE": scores.entropy, "RS": scores.reference}
        found.new["generation"] = {"convention": str(self.settings.writing), "missing": missing_scores(records)}
        found.new["generated"] = {
            "GE": _spread([r.entropy for r in scores.records]), "RS": _spread([r.reference for r in scores.records])
        }  # fmt: skip

    def _answers(self, model: CausalLM, records: Sequence[Record]) -> dict[str, str]:
        prompts = put_to_model(self.tokenizer, [(r.request.text, r.request.chat_template) for r in records])
        texts = self.generator(model, self.tokenizer, prompts, max_new_tokens=self.settings.answer_tokens, top_k=1)
        return {r.request.digest(): " ".join(text.split()) for r, text in zip(records, texts, strict=True)}

    def _score_texts(self, model: CausalLM, found: StepScores, unedited: Unedited | None = None) -> None:
        if self.texts:
            with _timed(found, "drift"):
                perplexity = score_perplexity(model, self.tokenizer, self.texts, scorer=self.scorer)
                far = None if unedited is None else score_divergence(model, self.tokenizer, self.texts, unedited)
            # JSON has no infinity; the logarithm is always finite.
            found.drift = {"perplexity": min(perplexity.value, 1e300), "nll": perplexity.nll}
            if far is not None:
                found.drift["kl"] = min(far.kl, 1e300)

    def task_outcomes(self, model: CausalLM) -> dict[str, Any]:
        """Task name -> outcomes of a model, per document; what a later state is compared with."""
        return {name: task.to_dict() for name, task in self._tasks(model).items()}

    def _tasks(self, model: CausalLM) -> dict[str, TaskResult]:
        if self.tasks is None:
            return {}
        results = evaluate_tasks(
            model, self.tokenizer, self.tasks, batch_size=self.settings.task_batch_size, scorer=self.scorer
        )
        for name, task in results.items():
            check_metrics(name, task.metrics)
        return results

    def _score_tasks(
        self,
        model: CausalLM,
        found: StepScores,
        baseline: Mapping[str, Any] | None,
        previous: Mapping[str, Any] | None = None,
    ) -> None:
        if self.tasks is None:
            return
        with _timed(found, "tasks"):
            results = self._tasks(model)
        found.outcomes = {name: task.to_dict() for name, task in results.items()}
        for name, task in results.items():
            row: dict[str, Any] = unedited_row(task)
            if baseline is not None and name in baseline:
                before = TaskResult.from_dict(name, baseline[name])
                last = previous.get(name) if previous else None
                row = task_changes(
                    task, before, previous=None if last is None else TaskResult.from_dict(name, last),
                    seed=self.seed, resamples=self.settings.resamples,
                )  # fmt: skip
            found.tasks[name] = row


def _answered(scores: Scores, positions: Sequence[int]) -> dict[str, list[int]]:
    """Positions of the facts whose new object is the model's own answer, and of those where it is another."""
    found: dict[str, list[int]] = {"answered": [], "missed": []}
    for position, row in zip(positions, scores.to_dict()["records"], strict=True):
        if row["rewrite"]:
            found["answered" if row["rewrite"][0]["argmax_correct"] else "missed"].append(position)
    return found


def _intervals(estimates: Mapping[str, Estimate | None]) -> dict[str, list[float]]:
    """Score -> [low, high], 95 %, in percent."""
    return {name: [e.ci_low, e.ci_high] for name, e in estimates.items() if e is not None}


def _spread(values: Sequence[float | None]) -> dict[str, float]:
    """Mean and standard deviation over the records that have a value, and how many these are."""
    known = [value for value in values if value is not None]
    mean = statistics.fmean(known) if known else 0.0
    return {"mean": mean, "deviation": statistics.stdev(known) if len(known) > 1 else 0.0, "records": len(known)}


@contextmanager
def _timed(scores: StepScores, part: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    scores.timings[part] = time.perf_counter() - start


SUMMARY_METRICS = (*METRICS, "GE", "RS")
"""What ``summary.json`` holds of every step."""
