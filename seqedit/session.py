"""A session: a model, its ledger, and a sequence of edits, each one an entry and each one scored."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ledger import Entry, Ledger
from seqedit.adapters import Adapter
from seqedit.config import EditConfig
from seqedit.context_templates import sample_context_templates
from seqedit.edited_model import EditedModel
from seqedit.editing import compute_adapter, protects_earlier
from seqedit.evaluation import Batch, Evaluator, StepScores
from seqedit.preconditioner import Factorizations
from seqedit.requests import Record, Request
from seqedit.second_moments import SecondMoments

KIND_SCORES = "counterfact"
KIND_TASKS = "tasks"
KIND_OUTCOMES = "samples"
KIND_FORGETTING = "forgetting"
KIND_RECORDS = "records"
KIND_ANSWERS = "answers"
KIND_TIMINGS = "seconds"


class Session:
    """Edits a model batch after batch; its weights are always those of the ledger's HEAD.

    Args:
        edited: The loaded model.
        ledger: Its ledger; must belong to the same base model.
        moments: Second moments of every layer that will be edited; None where no method needs them.
        context_templates: Groups of context templates; None samples them from the unedited model.
        seed: Seed of that sampling.
    """

    def __init__(
        self,
        edited: EditedModel,
        ledger: Ledger,
        moments: SecondMoments | None,
        *,
        context_templates: Sequence[Sequence[str]] | None = None,
        seed: int = 0,
    ) -> None:
        self.edited, self.ledger, self.moments, self.seed = edited, ledger, moments, seed
        if context_templates is None:
            # From the base, not from the current state: a resumed run samples the same ones.
            edited.write({})
            self.sampled = True
            context_templates = sample_context_templates(edited.model, edited.tokenizer, seed=seed)
        else:
            self.sampled = False
        self.context_templates = context_templates
        self._factors = None if moments is None else Factorizations(moments)
        self.checkout()

    def checkout(self, rev: str = "HEAD") -> None:
        """Give the model the weights of a state, composed from the base."""
        adapters = list(self.ledger.adapters(rev))
        modules = sorted({name for adapter in adapters for name in adapter.deltas})
        self.edited.write(self.ledger.compose(self.edited.base_weights(modules), rev) if modules else {})

    def compute(self, requests: Sequence[Request], method: str, config: EditConfig) -> Adapter:
        """Compute a batch on the current state; neither model nor ledger change."""
        return compute_adapter(
            self.edited.model, self.edited.tokenizer, requests, method, config,
            base_model=self.edited.base_model, second_moments=self.moments,
            context_templates=self.context_templates, factors=self._factors,
            earlier_keys=self.earlier_keys() if protects_earlier(config) else None,
            seed=self.seed,
        )  # fmt: skip

    def earlier_keys(self) -> dict[str, Tensor]:
        """Module name -> (N, d_in) keys of all active edits, as stored with their adapters.

        A layer's key depends on the layers below only, which a batch has already written when it measures the key;
        so the stored keys are those of the model after the batch, as AlphaEdit's cache wants them.
        """
        found: dict[str, list[Tensor]] = {}
        for adapter in self.ledger.adapters():
            for name, keys in adapter.keys.items():
                found.setdefault(name, []).append(keys)
        return {name: torch.cat(parts) for name, parts in found.items()}

    def edit(
        self,
        requests: Sequence[Request],
        method: str,
        config: EditConfig,
        *,
        message: str = "",
        author: str = "",
        when: str | None = None,
    ) -> Entry:
        """Compute a batch, append it to the ledger, and bring the model to the new state."""
        head = self.ledger.head()
        start = time.perf_counter()
        adapter = self.compute(requests, method, config)
        seconds = time.perf_counter() - start
        entry = self.ledger.append(
            adapter, message=message, author=author, time=when, parent=head,
            scores={KIND_TIMINGS: {"edit": seconds}},
        )  # fmt: skip
        self.checkout()
        return entry

    def revert(self, rev: str, *, message: str | None = None) -> Entry:
        """Take an entry out of force and bring the model to the new state."""
        entry = self.ledger.revert(rev, message=message)
        self.checkout()
        return entry

    def score(
        self, evaluator: Evaluator, records: Mapping[str, Sequence[Record]], baseline: Mapping[str, Any] | None
    ) -> StepScores:
        """Score the state of HEAD and write the scores to the ledger.

        Args:
            evaluator: What to measure.
            records: Entry id -> its records; entries without any are scored on their requests alone.
            baseline: Task outcomes of the unedited model.
        """
        live = self.ledger.live_requests()
        batches = [
            Batch(e.id, records.get(e.id) or [Record(r) for r in e.requests], live[e.id]) for e in self.ledger.active()
        ]
        scores = evaluator.step(self.edited.model, batches, baseline)
        self.record_scores("HEAD", scores)
        return scores

    def record_scores(self, rev: str, scores: StepScores) -> None:
        """Write scores of a state to the ledger; the averages last, so that they mark the step as scored."""
        add = self.ledger.add_scores
        new = dict(scores.new)
        add(rev, KIND_RECORDS, {"records": new.pop("records", [])})
        add(rev, KIND_FORGETTING, scores.by_entry)
        add(rev, KIND_ANSWERS, scores.answers)
        add(rev, KIND_OUTCOMES, scores.outcomes)
        add(rev, KIND_TASKS, scores.tasks)
        add(rev, KIND_TIMINGS, scores.timings)
        add(rev, KIND_SCORES, {**new, "earlier": scores.earlier})

    def is_scored(self, rev: str) -> bool:
        """Whether a state's scores are complete."""
        return "earlier" in self.ledger.scores(rev, KIND_SCORES).get(KIND_SCORES, {})
