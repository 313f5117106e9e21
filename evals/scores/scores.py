"""Per-prompt values of CounterFact records and the averages that are published of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from evals.scores.probes import MAIN_COLUMNS, ProbeScore, column_value, columns_of, compared, missing_columns

METRICS = ("ES", "PS", "NS", "S", "EM", "PM", "NM", "ET", "PT", "NT")
"""First letter: efficacy (the edited prompt), paraphrases, neighbourhood; second: s(core) by likelihood, m(atch) of the
whole answer, t(okens) of the answer. S is the harmonic mean of ES, PS and NS. docs/reference/scores.md defines them."""


@dataclass(frozen=True)
class PromptScore:
    """One prompt under one model.

    Attributes:
        prompt: Its text.
        nll_new: Mean negative log-likelihood per token of the new target, in nats.
        nll_true: The same of the true target; None where no true answer is known.
        argmax_correct: Whether all tokens of the right answer are the argmax: the new target for rewrite and
            paraphrase prompts, the true answer for neighbourhood prompts (None where it is not known).
        argmax_share: Share of that answer's tokens that are the argmax, each after the right tokens before it.
    """

    prompt: str
    nll_new: float
    nll_true: float | None
    argmax_correct: bool | None
    argmax_share: float | None = None


@dataclass(frozen=True)
class RecordScore:
    """The prompts of one record; its metrics are shares between 0 and 1, None without a prompt to tell."""

    case_id: str | int | None
    rewrite: tuple[PromptScore, ...]
    paraphrase: tuple[PromptScore, ...]
    neighborhood: tuple[PromptScore, ...]
    probes: tuple[ProbeScore, ...] = ()

    def value(self, metric: str) -> float | None:
        """Any of `METRICS` but S, or a column of its probes; None if it has no such prompts or no true answer."""
        if metric not in METRICS:
            return column_value(self.probes, metric)
        prompts = {"E": self.rewrite, "P": self.paraphrase, "N": self.neighborhood}[metric[0]]
        if metric[1] == "M":
            return _mean([float(p.argmax_correct) for p in prompts if p.argmax_correct is not None])
        if metric[1] == "T":
            return _mean([p.argmax_share for p in prompts if p.argmax_share is not None])
        pairs = [(p.nll_new, p.nll_true) for p in prompts if p.nll_true is not None]
        # Strict both ways, as published: a tie is a failure of the edit and of the neighbour alike.
        if metric[0] == "N":
            return _mean([float(true < new) for new, true in pairs])
        return _mean([float(true > new) for new, true in pairs])


@dataclass(frozen=True)
class Scores:
    """Scores of a list of records, in percent: averaged within each record, then over the records.

    A metric that no record can tell is None.
    """

    records: tuple[RecordScore, ...]

    def values(self, metric: str) -> list[float | None]:
        """The metric of every record, between 0 and 1."""
        return [record.value(metric) for record in self.records]

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns of portability and locality that some record has (`evals.scores.probes`)."""
        return columns_of(probe for record in self.records for probe in record.probes)

    @cached_property
    def probed(self) -> dict[str, float | None]:
        """Those columns, in percent; None where nothing tells it."""
        return {name: _percent([v for v in self.values(name) if v is not None]) for name in self.columns}

    @property
    def missing(self) -> dict[str, str]:
        """Why a column of portability or locality is null."""
        return missing_columns(probe for record in self.records for probe in record.probes)

    @property
    def probed_or_why(self) -> dict[str, Any]:
        """The columns of portability and locality, null where nothing tells them, with the reasons as "missing"."""
        return {**dict.fromkeys(MAIN_COLUMNS), **self.probed, "missing": self.missing}

    def against(self, unedited: Scores) -> Scores:
        """These scores with locality, which compares with the unedited model's scores of the same records."""
        pairs = zip(self.records, unedited.records, strict=True)
        return Scores(tuple(replace(r, probes=compared(r.probes, u.probes)) if r.probes else r for r, u in pairs))

    def subset(self, positions: Iterable[int]) -> Scores:
        """Scores of some of the records, e.g. of one batch among all that were scored together."""
        return Scores(tuple(self.records[position] for position in positions))

    def __getitem__(self, metric: str) -> float | None:
        """A metric by its published name, in percent."""
        return self.summary[metric] if metric in self.summary else self.probed[metric]

    @cached_property
    def summary(self) -> dict[str, float | None]:
        """All metrics by their published names."""
        result: dict[str, float | None] = {}
        for metric in METRICS:
            if metric == "S":
                result["S"] = harmonic_mean([result["ES"], result["PS"], result["NS"]])
            else:
                mean = _mean([value for value in self.values(metric) if value is not None])
                result[metric] = None if mean is None else 100 * mean
        return result

    def to_dict(self) -> dict[str, Any]:
        """The form that ``score --json`` prints."""
        groups = ("rewrite", "paraphrase", "neighborhood")
        return {
            **self.summary,
            **(self.probed_or_why if self.columns else {}),
            "records": [
                {
                    "case_id": r.case_id,
                    **{g: [asdict(p) for p in getattr(r, g)] for g in groups},
                    **({"probes": [p.to_dict() for p in r.probes]} if r.probes else {}),
                }
                for r in self.records
            ],
        }


def harmonic_mean(values: Sequence[float | None]) -> float | None:
    """Harmonic mean; 0 if one value is 0, None if one is None."""
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return None
    if min(known) <= 0:
        return 0.0
    return len(known) / sum(1 / value for value in known)


def _percent(values: Sequence[float]) -> float | None:
    mean = _mean(values)
    return None if mean is None else 100 * mean


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
