"""Means of shares over records, drawn from one or more strata, with their intervals.

Intervals are Wilson's with the *effective* number of records, p (1 - p) / variance: they stay between 0 and 1, have a
width at p = 1 too, and hold in batches of 16, where a bootstrap over records is too narrow
(docs/reference/statistics.md has figures).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evals.statistics.resampling import Floats

Interval = tuple[float, float]


@dataclass(frozen=True)
class StratifiedMeans:
    """Means of some metrics over the same records.

    Attributes:
        means: Estimate of each metric's mean, (metrics,).
        covariance: Of the estimates, (metrics, metrics); 0 where all records are known.
        records: How many records tell each metric, (metrics,).
        unknown: Share of the records that were not sampled; 1 where those are without limit.
        freedom: Degrees of freedom of the variances; None where they follow from the means (one stratum, every
            record right or wrong), one per metric.
    """

    means: Floats
    covariance: Floats
    records: NDArray[np.int64]
    unknown: float
    freedom: tuple[int | None, ...]

    def interval(self, metric: int, level: float) -> Interval:
        """Interval of one mean, between 0 and 1."""
        from scipy.stats import norm, t

        mean, variance = float(self.means[metric]), float(self.covariance[metric, metric])
        if self.unknown == 0:
            return mean, mean
        freedom = self.freedom[metric]
        if variance <= 0 or not 0 < mean < 1:
            # No spread was seen: as many independent records as there are, every one right or wrong, is cautious.
            return wilson_interval(mean, self.records[metric] / self.unknown, float(norm.ppf((1 + level) / 2)))
        quantile = float(norm.ppf((1 + level) / 2)) if freedom is None else float(t.ppf((1 + level) / 2, freedom))
        return wilson_interval(mean, mean * (1 - mean) / variance, quantile)

    def harmonic_interval(self, level: float) -> Interval:
        """Interval of the harmonic mean of all metrics, between 0 and 1.

        The reciprocal of the harmonic mean is the mean of the reciprocals; the interval of a sum follows from those
        of its terms by the method of variance estimates recovery (Zou and Donner 2008, "Construction of confidence
        limits about effect measures"), in which the correlations of the estimates enter.
        """
        ends = np.array([self.interval(metric, level) for metric in range(len(self.means))])
        count = len(self.means)
        if (self.means <= 0).any():
            # The reciprocal is infinite; S can be at most what the upper ends allow.
            return 0.0, float(count / (1 / ends[:, 1]).sum()) if (ends[:, 1] > 0).all() else 0.0
        spread = np.sqrt(np.diag(self.covariance))
        seen = spread > 0
        correlation = np.eye(count)
        both = np.outer(seen, seen) & ~np.eye(count, dtype=bool)
        correlation[both] = (self.covariance / np.outer(np.where(seen, spread, 1), np.where(seen, spread, 1)))[both]
        terms = 1 / self.means
        below = terms - 1 / ends[:, 1]
        high = count / (terms.sum() - np.sqrt(max(0.0, float(below @ correlation @ below))))
        if (ends[:, 0] <= 0).any():
            return 0.0, float(min(1.0, high))
        above = 1 / ends[:, 0] - terms
        low = count / (terms.sum() + np.sqrt(max(0.0, float(above @ correlation @ above))))
        return float(low), float(min(1.0, high))


def stratified_means(
    values: Sequence[Sequence[float | None]],
    strata: Sequence[int] | None = None,
    sizes: Sequence[int] | None = None,
    *,
    finite: bool = True,
) -> StratifiedMeans | None:
    """Means over all records of all strata, estimated from the sampled ones.

    A record that cannot tell a metric does not count for it, so the estimate is a ratio; its variance is that of the
    linearised ratio (Cochran, "Sampling Techniques", 3rd edition, 6.12), within strata, with the correction for
    strata of which much or all is sampled.

    Args:
        values: For every metric the sampled records' values between 0 and 1, None where a record cannot tell.
        strata: Stratum of every record, from 0; None for a single one.
        sizes: Records of every stratum, sampled or not; None where every record stands for equally many others.
        finite: Whether what is asked for is the mean of just these records (all are known once all are sampled), or
            that of many more of the same kind in the same proportions.

    Returns:
        The means; None if one metric is told by no record.
    """
    table = np.array([[np.nan if v is None else v for v in row] for row in values], dtype=np.float64).T
    if not len(table):
        return None
    stratum = np.zeros(len(table), dtype=np.int64) if strata is None else np.asarray(strata, dtype=np.int64)
    sampled = np.bincount(stratum, minlength=0 if sizes is None else len(sizes))
    size = sampled.astype(np.float64) if sizes is None else np.asarray(sizes, dtype=np.float64)
    finite = finite and sizes is not None
    present = ~np.isnan(table)
    weight = (size / np.maximum(sampled, 1))[stratum][:, None]
    told = (weight * present).sum(axis=0)
    if (told == 0).any():
        return None
    filled = np.where(present, table, 0.0)
    means = (weight * filled).sum(axis=0) / told
    # What each record moves its stratum's total by, seen from the ratio.
    parts = np.where(present, filled - means, 0.0) / told
    covariance = np.zeros((len(means), len(means)))
    for place in np.unique(stratum):
        own = parts[stratum == place]
        number = len(own)
        if number < 2:
            continue
        centred = own - own.mean(axis=0)
        unknown = 1 - number / size[place] if finite else 1.0
        covariance += size[place] ** 2 * unknown / number * (centred.T @ centred) / (number - 1)
    groups = len(np.unique(stratum))
    freedom: list[int | None] = []
    for column in range(len(means)):
        known = table[present[:, column], column]
        if groups == 1 and not finite and ((known == 0) | (known == 1)).all():
            # Wilson's own case: the effective number is to be n, so the variance p (1 - p) / n, not / (n - 1).
            variance = covariance[column, column]
            exact = means[column] * (1 - means[column]) / len(known)
            scale = np.sqrt(exact / variance) if variance > 0 else 1.0
            covariance[column] *= scale
            covariance[:, column] *= scale
            freedom.append(None)
        else:
            freedom.append(max(1, len(known) - groups))
    unknown = 1 - float(sampled.sum() / size.sum()) if finite else 1.0
    return StratifiedMeans(means, covariance, present.sum(axis=0), unknown, tuple(freedom))


def wilson_interval(share: float, trials: float, quantile: float) -> Interval:
    """Wilson's score interval (Wilson 1927) for a number of trials that need not be whole."""
    square = quantile * quantile
    centre = share + square / (2 * trials)
    half = quantile * (share * (1 - share) / trials + square / (4 * trials * trials)) ** 0.5
    scale = 1 + square / trials
    # At the ends of the range the sums below are 0 and 1 but for rounding.
    low = 0.0 if share <= 0 else max(0.0, float((centre - half) / scale))
    return low, 1.0 if share >= 1 else min(1.0, float((centre + half) / scale))


def wilson(successes: float, trials: int, level: float = 0.95) -> Interval:
    """Wilson's interval of a share, between 0 and 1."""
    from scipy.stats import norm

    return wilson_interval(successes / trials, trials, float(norm.ppf((1 + level) / 2)))
