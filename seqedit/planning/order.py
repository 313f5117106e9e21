"""Which facts go into a batch together: those with near keys, which the solver then sees jointly.

What is solved later does harm to what was solved before, by the cosine of their keys; within a batch the solver takes
all keys into account. So near keys are to share a batch, and of the batches those go first whose facts have nothing
near them later on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from seqedit.facts.identity import canonical
from seqedit.facts.requests import Request

if TYPE_CHECKING:  # the names of the orders are part of run files, which are read without torch
    from torch import Tensor

Order = Literal["file", "clustered"]
ORDERS: tuple[Order, ...] = ("file", "clustered")
Batches = list[list[int]]
_NEIGHBOURS = 64
"""Nearest keys of a fact that may bring it into a batch; keeps the pairs to be sorted few."""


@dataclass(frozen=True)
class LaterCosines:
    """Cosines of the keys of a sequence to later ones.

    Attributes:
        largest: The largest of all facts; 0 where nothing comes later.
        mean: Mean over the facts of each one's largest; facts of the last batch count 0.
    """

    largest: float
    mean: float

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        return asdict(self)


def later(cosines: Tensor, batches: Sequence[Sequence[int]]) -> tuple[list[float | None], list[int | None]]:
    """Of every fact the largest cosine to a key of a later batch, and whose it is; None in the last batch.

    Args:
        cosines: (n, n).
        batches: Positions of the facts, batch by batch.
    """
    values: list[float | None] = [None] * len(cosines)
    whose: list[int | None] = [None] * len(cosines)
    rest = [position for batch in batches for position in batch]
    for batch in batches:
        rest = rest[len(batch) :]
        if not rest:
            break
        found = cosines[list(batch)][:, rest].max(1)
        for position, value, column in zip(batch, found.values.tolist(), found.indices.tolist(), strict=True):
            values[position], whose[position] = value, rest[column]
    return values, whose


def summary(cosines: Tensor, batches: Sequence[Sequence[int]]) -> LaterCosines:
    """Largest and mean cosine to later keys."""
    found = [0.0 if value is None else value for value in later(cosines, batches)[0]]
    return LaterCosines(max(found, default=0.0), sum(found) / max(1, len(found)))


def in_file_order(count: int, size: int) -> Batches:
    """Positions cut into batches of one size; the last may be smaller."""
    return [list(range(start, min(start + size, count))) for start in range(0, count, size)]


def clustered(
    requests: Sequence[Request], cosines: Tensor, size: int, *, together: bool = True, seed: int = 0
) -> Batches:
    """Batches of one size (the last may be smaller) with near keys together.

    Pairs are joined from the nearest on, as single linkage does, as long as a group fits into a batch; groups are
    packed into batches; batches are put in order. Facts that are said twice keep their order: the later one is to
    supersede the earlier one. Where this is no better than the file's order, the file's order is kept.

    Args:
        requests: n requests.
        cosines: (n, n), symmetric.
        size: Batch size.
        together: Whether the method solves a batch as one; else every request is a batch of its own, in its place.
        seed: Of how ties are broken.

    Returns:
        Positions; the same for the same arguments.
    """
    import torch

    plain = in_file_order(len(requests), size)
    unit = size if together else 1
    ties = torch.randperm(len(requests), generator=torch.Generator().manual_seed(seed))
    flat: list[int] = []
    for part in _without_repeats(requests, plain):
        here = torch.tensor(part)
        groups = _packed(_linked(cosines[here][:, here], unit, ties[here]), cosines[here][:, here], unit)
        flat += [part[i] for group in _in_order(groups, cosines[here][:, here], unit) for i in group]
    cut = [flat[start : start + size] for start in range(0, len(flat), size)]
    old, new = (summary(cosines, _solved(batches, together)) for batches in (plain, cut))
    return cut if (new.largest, new.mean) < (old.largest, old.mean) else plain


def _solved(batches: Batches, together: bool) -> Batches:
    """What is solved as one."""
    return batches if together else [[position] for batch in batches for position in batch]


def _without_repeats(requests: Sequence[Request], batches: Batches) -> Iterator[list[int]]:
    """Runs of whole batches in which no fact is said twice."""
    run: list[int] = []
    seen: set[tuple[str, str]] = set()
    for batch in batches:
        names = {name for i in batch for name in (requests[i].fact, ("", canonical(requests[i].text)))}
        if names & seen:
            yield run
            run, seen = [], set()
        run, seen = run + batch, seen | names
    if run:
        yield run


def _linked(cosines: Tensor, size: int, ties: Tensor) -> Batches:
    """Groups of at most ``size``, joined from the nearest pair on."""
    count = len(cosines)
    groups = {i: [i] for i in range(count)}
    of = list(range(count))
    apart = cosines.clone().fill_diagonal_(-2)
    near = apart.topk(min(_NEIGHBOURS, count - 1), dim=1) if count > 1 and size > 1 else None
    pairs = set() if near is None else {
        (min(i, j), max(i, j)) for i, row in enumerate(near.indices.tolist()) for j in row
    }  # fmt: skip
    values, rank = cosines.tolist(), ties.tolist()
    for i, j in sorted(pairs, key=lambda pair: (-values[pair[0]][pair[1]], sorted((rank[pair[0]], rank[pair[1]])))):
        if of[i] != of[j] and len(groups[of[i]]) + len(groups[of[j]]) <= size:
            joined = groups.pop(of[j])
            groups[of[i]] += joined
            for k in joined:
                of[k] = of[i]
    return sorted(groups.values(), key=lambda group: (-len(group), rank[group[0]]))


def _packed(groups: Batches, cosines: Tensor, size: int) -> Batches:
    """Batches of exactly ``size`` but the last; a group is split only where nothing whole fits."""
    left, batches = [list(group) for group in groups], []
    while left:
        batch = left.pop(0)
        while left and len(batch) < size:
            nearest = cosines[batch].amax(0).tolist()
            room = size - len(batch)
            fitting = [group for group in left if len(group) <= room]
            if fitting:
                best = max(fitting, key=lambda group: (max(nearest[i] for i in group), len(group)))
                left.remove(best)
                batch += best
            else:
                best = min(left, key=len)
                best.sort(key=lambda i: -nearest[i])
                batch += best[:room]
                del best[:room]
        batches.append(batch)
    return batches


def _in_order(batches: Batches, cosines: Tensor, size: int) -> Batches:
    """First those whose facts have the least near them later on; a smaller batch stays last."""
    last = batches[-1:] if len(batches[-1]) < size else []
    left = batches[: len(batches) - len(last)]
    # (n, batches) largest cosine of every fact to every batch.
    import torch

    to = torch.stack([cosines[:, batch].amax(1) for batch in [*left, *last]], dim=1)
    alive, ordered = list(range(len(left))), []
    end = [len(left)] if last else []
    while len(alive) + len(end) > 1 and alive:
        harm = [
            float(to[left[b]][:, [c for c in [*alive, *end] if c != b]].amax(1).mean()) for b in alive
        ]  # fmt: skip
        ordered.append(alive.pop(harm.index(min(harm))))
    return [sorted(left[b]) for b in [*ordered, *alive]] + [sorted(batch) for batch in last]
