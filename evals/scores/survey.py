"""Scoring a sample of the earlier edits, with an honest interval, where scoring all of them costs too much.

The sample is stratified by batch, so that old and new batches are in it in proportion, and nested over steps: a
record that is in the sample at one step stays in it as long as there is room, so that curves compare the same records.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from evals.scores.intervals import Estimate, estimated_scores
from evals.scores.scores import Scores
from seqedit.errors import InputError

Position = tuple[int, int]
"""(batch, position in the batch), both from 0."""

_LEAST = 2
"""Records of every stratum at least, so that its variance can be seen."""


@dataclass(frozen=True)
class RecordSample:
    """Which of the earlier records are scored.

    Attributes:
        chosen: Their places, in order of batch and position.
        strata: Stratum of each, from 0: a batch, or several neighbouring ones where batches are many.
        sizes: Records of each stratum, chosen or not.
    """

    chosen: tuple[Position, ...]
    strata: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def exact(self) -> bool:
        """Whether all records are in it."""
        return len(self.chosen) == sum(self.sizes)

    def by_batch(self) -> dict[int, list[int]]:
        """Batch -> chosen positions in it; batches without a chosen record are left out."""
        result: dict[int, list[int]] = {}
        for batch, position in self.chosen:
            result.setdefault(batch, []).append(position)
        return result


def choose_records(batches: Sequence[Sequence[str]], budget: int | None, *, seed: int = 0) -> RecordSample:
    """Choose a stratified sample of the records of all batches.

    Every record has a priority from the seed and its key alone, and every stratum gives its records of highest
    priority. How many each gives is settled by a divisor method (Sainte-Lague, with two from each stratum first): a
    further batch can only take places from the others, never give them one. As long as every batch is a stratum
    of its own, the sample is therefore nested: of the batches of a step, a later sample of the same budget holds a
    part of the earlier one. Where the budget is below two per batch, neighbouring batches are joined by twos, fours,
    ..., and then most, not all, records stay.

    Args:
        batches: For every batch, oldest first, a stable key of each of its records, e.g. the request's digest;
            records that no longer hold are left out by the caller.
        budget: Most records to score; None, or as many as there are, for all.
        seed: Seed of the priorities.

    Raises:
        InputError: the budget is less than two.
    """
    total = sum(len(batch) for batch in batches)
    if budget is None or budget >= total:
        budget = total
    elif budget < _LEAST:
        raise InputError(f"a sample needs at least {_LEAST} records, the budget is {budget}")
    groups = _joined([len(batch) for batch in batches], budget)
    seats = _seats([sum(len(batches[b]) for b in group) for group in groups], budget)
    places: list[tuple[Position, int]] = []
    for stratum, (group, number) in enumerate(zip(groups, seats, strict=True)):
        members = [(_priority(seed, key), (b, i)) for b in group for i, key in enumerate(batches[b])]
        places.extend((place, stratum) for _, place in sorted(members)[:number])
    places.sort()
    return RecordSample(
        chosen=tuple(place for place, _ in places),
        strata=tuple(stratum for _, stratum in places),
        sizes=tuple(sum(len(batches[b]) for b in group) for group in groups),
    )


def estimate_scores(
    sample: RecordSample, scores: Scores, *, level: float = 0.95, of_history: bool = True
) -> dict[str, Estimate | None]:
    """Scores of all earlier records from those of a sample, in percent.

    Args:
        sample: From `choose_records`.
        scores: Scores of its records, in the order of ``sample.chosen``.
        level: Coverage of the intervals.
        of_history: What the interval is about. True: the score of all records of this history, unknown only because
            some were not scored, so that a sample of all has an interval of no width. False: the score of edits of
            this kind, of which the history itself is a draw; never narrower.

    Returns:
        For each of `evals.scores.scores.METRICS` the estimate and its interval, None where no record tells it.

    Raises:
        InputError: there are not as many scores as records in the sample.
    """
    if len(scores.records) != len(sample.chosen):
        raise InputError(f"the sample has {len(sample.chosen)} records, but {len(scores.records)} were scored")
    return estimated_scores(scores, sample.strata, sample.sizes, level=level, finite=of_history)


def _priority(seed: int, key: str) -> bytes:
    return hashlib.sha256(f"{seed}:{key}".encode()).digest()


def _joined(sizes: Sequence[int], budget: int) -> list[range]:
    """Runs of neighbouring batches, each as long as the smallest power of two for which the budget suffices."""
    width = 1
    while True:
        groups = [range(start, min(start + width, len(sizes))) for start in range(0, len(sizes), width)]
        groups = [group for group in groups if any(sizes[b] for b in group)]
        if sum(min(_LEAST, sum(sizes[b] for b in group)) for group in groups) <= budget:
            return groups
        width *= 2


def _seats(sizes: Sequence[int], budget: int) -> list[int]:
    """How many records each stratum gives, ``budget`` in all."""
    # A stratum's place number s, from 0, has the quotient size / (2 s + 1); the largest quotients are served. Which
    # of two places comes first never depends on the other strata: that makes the sample nested.
    claims = sorted(
        (-float("inf") if s < _LEAST else -size / (2 * s + 1), stratum)
        for stratum, size in enumerate(sizes)
        for s in range(size)
    )
    seats = [0] * len(sizes)
    for _, stratum in claims[:budget]:
        seats[stratum] += 1
    return seats
