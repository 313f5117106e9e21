"""Scores of the same records under two models: the change, and its interval at any level.

Both models answer the same records, so their errors largely cancel. The interval of a difference of two shares follows
from the intervals of the shares and from the correlation of their estimates: Newcombe's method 10 for paired
proportions ("Improved confidence intervals for the difference between binomial proportions based on paired data",
Statistics in Medicine 17, 1998), which Zou and Donner (2008) extend to any two estimates. It has a width where nothing
changed, or everything did, and holds in batches of 16, where a bootstrap over records is too narrow.

What is kept of the records (`PairedScore.to_dict`) does not depend on the level and not on how many they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evals.scores.scores import METRICS, Scores, harmonic_mean
from evals.statistics.resampling import Floats
from evals.statistics.stratified import Interval, StratifiedMeans, stratified_means

_IN_S = ("ES", "PS", "NS")


@dataclass(frozen=True)
class PairedScore:
    """One score under the unedited and the edited model, in percent.

    Attributes:
        means: Of the shares it is made of, first under the unedited model, then under the edited one: (2,), or (6,)
            for S, the harmonic mean of ES, PS and NS.
    """

    means: StratifiedMeans

    @property
    def before(self) -> float:
        """The unedited model's score."""
        return 100 * self._value(self._side(0))

    @property
    def after(self) -> float:
        """The edited model's score."""
        return 100 * self._value(self._side(1))

    @property
    def change(self) -> float:
        """``after`` less ``before``."""
        return self.after - self.before

    def interval(self, level: float) -> Interval:
        """Confidence interval of ``after``."""
        low, high = self._interval(self._side(1), level)
        return 100 * low, 100 * high

    def change_interval(self, level: float) -> Interval:
        """Confidence interval of ``change``, paired by record."""
        before, after = self._side(0), self._side(1)
        b, a = self._value(before), self._value(after)
        (b_low, b_high), (a_low, a_high) = self._interval(before, level), self._interval(after, level)
        correlation = self._correlation()
        low = a - b - _joined(a - a_low, b_high - b, correlation)
        high = a - b + _joined(a_high - a, b - b_low, correlation)
        return 100 * max(-1.0, low), 100 * min(1.0, high)

    def _side(self, side: int) -> StratifiedMeans:
        half = len(self.means.means) // 2
        part = slice(side * half, (side + 1) * half)
        return StratifiedMeans(
            self.means.means[part],
            self.means.covariance[part, part],
            self.means.records[part],
            self.means.unknown,
            self.means.freedom[part],
        )

    @staticmethod
    def _value(side: StratifiedMeans) -> float:
        return harmonic_mean([float(mean) for mean in side.means]) or 0.0

    @staticmethod
    def _interval(side: StratifiedMeans, level: float) -> Interval:
        return side.interval(0, level) if len(side.means) == 1 else side.harmonic_interval(level)

    def _correlation(self) -> float:
        """Of the two estimates; 0 where one of them shows no spread, as in Newcombe's method."""
        half = len(self.means.means) // 2
        slopes = np.concatenate([_slopes(self.means.means[:half]), _slopes(self.means.means[half:])])
        moved = self.means.covariance * np.outer(slopes, slopes)
        spread = float(moved[:half, :half].sum() * moved[half:, half:].sum())
        return 0.0 if spread <= 0 else float(np.clip(moved[:half, half:].sum() / spread**0.5, -1, 1))

    def to_dict(self) -> dict[str, Any]:
        """The score as JSON types; the inverse of `from_dict`. "before", "after" and "change" are for readers."""
        return {
            "before": self.before,
            "after": self.after,
            "change": self.change,
            "means": self.means.means.tolist(),
            "covariance": self.means.covariance.tolist(),
            "records": self.means.records.tolist(),
            "unknown": self.means.unknown,
            "freedom": list(self.means.freedom),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PairedScore:
        """The inverse of `to_dict`."""
        return cls(
            StratifiedMeans(
                np.array(data["means"], dtype=np.float64),
                np.array(data["covariance"], dtype=np.float64),
                np.array(data["records"], dtype=np.int64),
                float(data["unknown"]),
                tuple(data["freedom"]),
            )
        )


def paired_scores(
    before: Scores,
    after: Scores,
    strata: Sequence[int] | None = None,
    sizes: Sequence[int] | None = None,
    *,
    finite: bool = True,
) -> dict[str, PairedScore]:
    """Every metric of `evals.scores.scores.METRICS` that the records tell.

    Args:
        before: Scores of the records under the unedited model.
        after: Scores of the same records, in the same order, under the edited one.
        strata, sizes, finite: As for `evals.statistics.stratified.stratified_means`.
    """
    found: dict[str, PairedScore] = {}
    for metric in (*METRICS, *after.columns):
        names = _IN_S if metric == "S" else (metric,)
        columns = [scores.values(name) for scores in (before, after) for name in names]
        means = stratified_means(columns, strata, sizes, finite=finite)
        if means is not None:
            found[metric] = PairedScore(means)
    return found


def _joined(first: float, second: float, correlation: float) -> float:
    return max(0.0, first * first + second * second - 2 * correlation * first * second) ** 0.5


def _slopes(means: Floats) -> Floats:
    """Derivative of the harmonic mean by each of the means, up to a common factor."""
    if (means <= 0).any():
        return np.zeros_like(means)
    slopes: Floats = 1 / means**2
    return slopes
