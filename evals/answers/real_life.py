"""CounterFact and zsRE records by free generation, beside the same prompts under teacher forcing.

"The Mirage of Model Editing" (Yang et al., 2025, arXiv 2502.11177) finds that teacher forcing, which feeds the right
answer while asking for it and ends where it ends, makes edits look better than what a user sees. Here the model
answers alone, and stops by itself. An edit's own prompt and its paraphrases ask for the new target, neighbours for
their true answer; the paper compares neighbours with what the unedited model said, `unchanged` does that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.answers.answers import Asking, Proportion, ask, contained, exact, proportion
from evals.scores.counterfact import score_records
from evals.scores.scores import Scores
from seqedit.errors import InputError
from seqedit.facts.requests import Record
from seqedit.forward.protocols import CausalLM, Tokenizer

GROUPS = {"E": "rewrite", "P": "paraphrase", "N": "neighborhood"}
"""First letter of a metric -> which prompts."""


@dataclass(frozen=True)
class FreeAnswer:
    """One prompt.

    Attributes:
        prompt: The prompt, without the template.
        target: The right answer; None where it is not known.
        answer: What the model said up to its stop.
        exact: Whether that is the target, after normalisation; None where the target is not known.
        contained: Whether it holds the target.
    """

    prompt: str
    target: str | None
    answer: str
    exact: bool | None
    contained: bool | None


@dataclass(frozen=True)
class RealLifeScores:
    """Free answers and teacher-forced scores of the same records.

    Attributes:
        answers: Per record, group name -> the answers to its prompts.
        forced: The teacher-forced scores.
    """

    answers: tuple[Mapping[str, tuple[FreeAnswer, ...]], ...]
    forced: Scores

    def __getitem__(self, metric: str) -> Proportion:
        """E, P or N, then R (real-life, exact), C (contained), M or T (teacher-forced, as in `evals.scores.scores`)."""
        group, kind = metric[0], metric[1:]
        if group not in GROUPS or kind not in ("R", "C", "M", "T"):
            raise InputError(f"unknown metric {metric!r}; known: E, P or N followed by R, C, M or T")
        if kind in ("M", "T"):
            return proportion(self.forced.values(metric))
        field = "exact" if kind == "R" else "contained"
        return proportion(_mean([getattr(a, field) for a in record[GROUPS[group]]]) for record in self.answers)

    def summary(self) -> dict[str, Proportion]:
        """All twelve metrics."""
        return {group + kind: self[group + kind] for group in GROUPS for kind in "TMRC"}

    def unchanged(self, before: RealLifeScores) -> Proportion:
        """Share of the neighbourhood prompts answered as by another model (the unedited one), over records."""
        values = []
        for old, new in zip(before.answers, self.answers, strict=True):
            pairs = zip(old["neighborhood"], new["neighborhood"], strict=True)
            values.append(_mean([a.answer == b.answer for a, b in pairs]))
        return proportion(values)

    def to_dict(self) -> dict[str, Any]:
        """{metric: share, "records": [{group: [answers]}]}."""
        return {
            **{name: value.to_dict() for name, value in self.summary().items()},
            "records": [
                {group: [vars(answer) for answer in answers] for group, answers in record.items()}
                for record in self.answers
            ],
        }


def score_real_life(
    model: CausalLM,
    tokenizer: Tokenizer,
    records: Sequence[Record],
    asking: Asking | None = None,
    *,
    forced: Scores | None = None,
) -> RealLifeScores:
    """Let a model answer the records' prompts freely, and score the same prompts under teacher forcing.

    Args:
        model: A causal language model; left as it was.
        tokenizer: Its fast tokenizer.
        records: What to score.
        asking: Template and length; by default the prompt alone and 50 new tokens. Teacher forcing never uses the
            template: it is the measurement that is published without one.
        forced: `score_records` of the same records, if it is there already.

    Raises:
        RequestError, InputError: as for `evals.scores.counterfact.score_records` and
        `evals.likelihood.decoding.generate`.
    """
    asking = asking or Asking()
    asked = [_prompts(record) for record in records]
    wanted = (asking.prompt(prompt) for groups in asked for prompts in groups.values() for prompt, _ in prompts)
    said = ask(model, tokenizer, wanted, asking)
    answers = tuple(
        {group: tuple(_judged(p, t, said[asking.prompt(p)]) for p, t in prompts) for group, prompts in groups.items()}
        for groups in asked
    )
    return RealLifeScores(answers, forced or score_records(model, tokenizer, records))


def _prompts(record: Record) -> dict[str, list[tuple[str, str | None]]]:
    """Prompts of each group with their right answers."""
    request = record.request
    return {
        "rewrite": [(request.text, request.target_new)],
        "paraphrase": [(prompt, request.target_new) for prompt in record.paraphrase_prompts],
        "neighborhood": [
            (n.prompt, request.target_true if n.target_true is None else n.target_true)
            for n in record.neighborhood_prompts
        ],
    }


def _judged(prompt: str, target: str | None, answer: str) -> FreeAnswer:
    if target is None:
        return FreeAnswer(prompt, None, answer, None, None)
    return FreeAnswer(prompt, target, answer, exact(answer, [target]), contained(answer, [target]))


def _mean(values: Sequence[bool | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
