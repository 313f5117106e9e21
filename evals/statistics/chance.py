"""Whether a task says anything about the unedited model: a score that chance explains has no room to fall."""

from __future__ import annotations

import logging
import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from evals.statistics.outcomes import TaskResult
from evals.statistics.pairing import pair_outcomes
from evals.statistics.resampling import percentile_interval, resampled
from evals.statistics.stratified import wilson

_LOG = logging.getLogger(__name__)

_ACCURACIES = ("acc", "acc_norm")
_RESAMPLES = 2_000


@dataclass(frozen=True)
class Chance:
    """The main metric of a task beside what answering without reading the documents gives.

    Attributes:
        metric: The main metric.
        value: Its value.
        low, high: Its 95 % interval: Wilson's of an accuracy, the percentile bootstrap over documents of mcc.
        chance: Accuracy: the share of the commonest label (always giving it), or the mean of 1 / choices where the
            documents' choices differ. mcc: 0.
        documents: Of so many documents.
    """

    metric: str
    value: float
    low: float
    high: float
    chance: float
    documents: int

    @property
    def told(self) -> bool:
        """Whether the whole interval lies above chance."""
        return self.low > self.chance

    def to_dict(self) -> dict[str, Any]:
        """As JSON types, with "told"."""
        return {**asdict(self), "told": self.told}

    def __str__(self) -> str:
        below = "is below" if self.high < self.chance else "cannot be told from"
        return (
            f"{self.metric} {self.value:.3f} [{self.low:.3f}, {self.high:.3f}] of the unedited model on "
            f"{self.documents} documents {'is above' if self.told else below} chance ({self.chance:.3f})"
            f"{'' if self.told else ': damage may not show in it; take more documents or examples (num_fewshot)'}"
        )


def chance_of(result: TaskResult, level: float = 0.95) -> Chance | None:
    """A task's main metric against chance; None where that is not defined (texts, other metrics, no documents).

    Args:
        result: The task on the unedited model.
        level: Coverage of the interval.
    """
    metric, outcomes = result.main_metric, result.outcomes
    if not outcomes or any(o.gold is None or o.prediction is None for o in outcomes):
        return None
    count = len(outcomes)
    if metric in _ACCURACIES:
        value = result.value
        low, high = wilson(value * count, count, level)
        if result.labels is None:
            chance = statistics.fmean(1 / len(o.log_likelihoods) for o in outcomes)
        else:
            chance = max(Counter(o.gold for o in outcomes).values()) / count
        return Chance(metric, value, low, high, chance, count)
    if metric == "mcc":
        pairs = pair_outcomes(metric, outcomes, outcomes)
        draws = resampled(lambda counts: pairs.measure(counts)[0], pairs.counts, _RESAMPLES, 0)
        low, high = percentile_interval(draws, level)
        return Chance(metric, result.value, low, high, 0.0, count)
    return None


def warn_of_chance(results: Iterable[TaskResult]) -> None:
    """One line for every task whose score of the unedited model cannot be told from chance."""
    for result in results:
        chance = chance_of(result)
        if chance is not None and not chance.told:
            _LOG.warning("task %r: %s", result.name, chance)


def unedited_row(result: TaskResult) -> dict[str, Any]:
    """A task's entry in a summary's baseline: its metrics, and "chance" (`Chance.to_dict`) where that is defined."""
    chance = chance_of(result)
    return {**result.told, **({} if chance is None else {"chance": chance.to_dict()})}
