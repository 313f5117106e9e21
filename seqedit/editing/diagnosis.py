"""Whether an edit can have taken, from what computing it already knows; where it cannot, which setting is at fault.

Two things must come about: a target value that makes the model say the new answer, and an update that writes it. The
first is the optimisation's: its last loss, and whether the answer was the argmax. The second is the closed form's: of a
request's residual r the update writes <Delta k, r> / <r, r> at its key. Neither needs another forward pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from seqedit.filters import get_filter
from seqedit.methods.alphaedit import AlphaEditConfig
from seqedit.methods.config import ClosedFormConfig, EditConfig
from seqedit.methods.interface import Filtered, LayerUpdate, Update
from seqedit.targets.values import TargetValues

ENOUGH_CONVERGED = 0.75
"""Below this share of target values that reached their answer, an edit is reported as one that cannot work."""
ENOUGH_WRITTEN = 0.75
"""Below this share of the residual that is written, likewise."""
GOOD_SHARE = 0.95
"""The share that a proposed second-moment weight writes."""
ROOM = 2
"""Batches like this one for which an evolving null space should have dimensions left, this one included."""
REACH = 3.0
"""Norms of a hidden state that an optimisation should be able to go: Adam moves a component by the learning rate at
most, so T updates go no further than ``rate T sqrt(d)``."""


@dataclass(frozen=True)
class Fault:
    """Why an edit cannot be expected to have taken.

    Attributes:
        setting: The setting at fault.
        value: What it is.
        proposed: What to try.
        reason: The numbers that say so, as a sentence.
    """

    setting: str
    value: float
    proposed: float
    reason: str

    def __str__(self) -> str:
        return f"{self.reason}; try --set {self.setting}={self.proposed:g} (it is {self.value:g})"


@dataclass(frozen=True)
class Diagnosis:
    """What is known of an edit before its model is asked anything.

    Attributes:
        requests: How many.
        converged: Target values whose loss came below `stop_below`, or whose answer was the argmax in every context;
            None for methods without target values.
        reached: Those whose answer was the argmax.
        written: Module name -> mean share of the residual that was written; empty where nothing was solved.
        condition: Module name -> condition number of the solved system.
        size: Module name -> Frobenius norm of the update over that of the weight before it.
        load: Module name -> edits in force, these included, per key dimension.
        faults: Settings with which the edit cannot be expected to work.
        filtered: Module name -> what a filter left of the update (`Filtered`); empty without one.
        bounded: Target values that ended at the bound on their size, the clamp or the trust region; None for methods
            without target values.
        left: Module name -> dimensions that earlier facts left of an evolving null space, and those it had before any;
            empty for methods without one.
    """

    requests: int
    converged: int | None
    reached: int | None
    written: Mapping[str, float]
    condition: Mapping[str, float]
    size: Mapping[str, float]
    load: Mapping[str, float]
    faults: tuple[Fault, ...]
    filtered: Mapping[str, Filtered] = field(default_factory=dict)
    bounded: int | None = None
    left: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def written_share(self) -> float | None:
        """The smallest share of the modules."""
        return min(self.written.values(), default=None)

    def to_dict(self) -> dict[str, Any]:
        """JSON types, rounded to six digits."""
        found = asdict(self)
        for name in ("written", "condition", "size", "load"):
            found[name] = {module: _rounded(value) for module, value in found[name].items()}
        found["faults"] = [{**asdict(fault), "text": str(fault)} for fault in self.faults]
        # Only where there is one: what was computed without is recorded as it always was.
        del found["filtered"]
        if self.filtered:
            found["filtered"] = {
                module: {k: _rounded(v) if isinstance(v, float) else v for k, v in asdict(one).items()}
                for module, one in self.filtered.items()
            }
        left = {module: list(dimensions) for module, dimensions in found.pop("left").items()}
        if left:
            found["left"] = left
        return found

    def line(self) -> str:
        """One line."""
        return line_of(self.to_dict())


def line_of(found: Mapping[str, Any]) -> str:
    """One line of a recorded diagnosis (`Diagnosis.to_dict`)."""
    parts = []
    if found["converged"] is not None:
        parts.append(f"{found['converged']} of {found['requests']} target values converged")
        parts.append(f"{found['reached']} at the argmax")
        if found.get("bounded"):
            parts.append(f"{found['bounded']} at the bound")
    if found["written"]:
        parts.append(f"{100 * min(found['written'].values()):.0f} % of the residual written")
        parts.append(f"condition {max(found['condition'].values()):.0e}")
    parts.append(f"update {100 * max(found['size'].values()):.2g} % of the weights")
    if found.get("filtered"):
        parts.append(_filter_line(found["filtered"].values()))
    parts.append(f"load {max(found['load'].values()):.2g}")
    if found.get("left"):
        left, whole = min(found["left"].values())
        parts.append(f"null space {left} of {whole}")
    return ", ".join(parts)


def _filter_line(found: Iterable[Mapping[str, Any]]) -> str:
    """What filters left, and what that costs."""
    rows = list(found)
    line = f"{100 * min(row['kept'] for row in rows):.0f} % of it left by the filter"
    before, rank = max(row["rank_before"] for row in rows), max(row["rank"] for row in rows)
    if rank > before:
        times = f"an adapter {rank / before:.2g} times as large"
        line += f", whose result takes rank {rank} to store instead of {before}: {times}"
    return line


def diagnose(
    update: Update, config: EditConfig, weights: Mapping[str, float], norms: Mapping[str, float], in_force: int = 0
) -> Diagnosis:
    """What an update's numbers say of it.

    Args:
        update: From the method.
        config: Its settings.
        weights: Module name -> Frobenius norm of the weight before the update.
        norms: Module name -> Frobenius norm of the update.
        in_force: Edits that were in force before.
    """
    solved = {layer.projection.name: layer.solved for layer in update.layers if layer.solved is not None}
    written = {name: sum(s.written) / len(s.written) for name, s in solved.items()}
    left = {name: s.left for name, s in solved.items() if s.left is not None}
    found, n = update.optimised, len(update.target_values)
    converged = None if found is None else _converged(found, config)
    of_solution = _of_filter(update, written, config) or _of_weights(written, config)
    return Diagnosis(
        n,
        None if converged is None else sum(converged),
        None if found is None else sum(found.reached),
        written,
        {name: s.condition for name, s in solved.items()},
        {name: norm / max(weights[name], 1e-300) for name, norm in norms.items()},
        {layer.projection.name: (in_force + n) / _key_dimension(layer) for layer in update.layers},
        (*_of_targets(found, converged, config), *(_of_room(left, n, config) or of_solution)),
        {layer.projection.name: layer.filtered for layer in update.layers if layer.filtered is not None},
        None if found is None else sum(found.bounded),
        left,
    )


def _converged(found: TargetValues, config: EditConfig) -> list[bool]:
    assert isinstance(config, ClosedFormConfig)
    return [
        loss < config.stop_below or reached
        for loss, reached in zip(found.losses, found.reached or [False] * len(found.losses), strict=True)
    ]


def _of_targets(found: TargetValues | None, converged: Sequence[bool] | None, config: EditConfig) -> list[Fault]:
    if found is None or converged is None or sum(converged) >= ENOUGH_CONVERGED * len(converged):
        return []
    assert isinstance(config, ClosedFormConfig)
    left = [i for i, done in enumerate(converged) if not done]
    worst = max(found.losses[i] for i in left)
    reason = f"{len(left)} of {len(converged)} target values did not converge (losses up to {worst:.2g})"
    if config.trust_region is not None and found.bounded and sum(found.bounded[i] for i in left) >= 0.5 * len(left):
        reason += ", most of them at the bound on their norm"
        return [Fault("trust_region", config.trust_region, 2 * config.trust_region, reason)]
    hidden = found.initial[left].double().norm(dim=1)
    moved = (found.values - found.initial)[left].double().norm(dim=1)
    if float((moved >= 0.98 * config.clamp_norm_factor * hidden).double().mean()) >= 0.5:
        reason += ", most of them at the bound on their norm"
        return [Fault("clamp_norm_factor", config.clamp_norm_factor, 2 * config.clamp_norm_factor, reason)]
    norm, d, updates = float(hidden.median()), found.values.shape[1], max(1, config.steps - 1)
    wanted = REACH * norm / (updates * math.sqrt(d))
    if config.learning_rate < 0.8 * wanted:
        reason += (
            f": {updates} updates of {config.learning_rate:g} cannot go far against hidden states of norm {norm:.3g}"
        )
        return [Fault("learning_rate", config.learning_rate, _two_digits(wanted), reason)]
    return [Fault("steps", config.steps, 2 * config.steps, reason)]


def _of_weights(written: Mapping[str, float], config: EditConfig) -> list[Fault]:
    low = min(written.values(), default=1.0)
    setting = config.written_by if isinstance(config, ClosedFormConfig) else None
    if low >= ENOUGH_WRITTEN or setting is None:
        return []
    weight = float(getattr(config, setting))
    # A share s = q / (q + a weight) has q = a weight s / (1 - s), whatever a is; for the wanted share the weight
    # follows. Keys that share directions write less than that of one alone, so it is a value to try, not the last word.
    share = min(max(low, 1e-6), 1 - 1e-6)
    proposed = weight * share / (1 - share) * (1 - GOOD_SHARE) / GOOD_SHARE
    reason = f"only {100 * low:.0f} % of the residual is written: the weight of what is kept outweighs the keys"
    return [Fault(setting, weight, _two_digits(proposed), reason)]


def _of_filter(update: Update, written: Mapping[str, float], config: EditConfig) -> list[Fault]:
    """A filter that takes what the closed form would have written."""
    low = min(written, key=lambda name: written[name], default=None)
    found = {layer.projection.name: layer.filtered for layer in update.layers}
    if low is None or (filtered := found[low]) is None or written[low] >= ENOUGH_WRITTEN:
        return []
    assert isinstance(config, ClosedFormConfig)
    own = get_filter(config.update_filter).own
    name = next((name for name in ("energy", "share") if name in own), None)
    if name is None or (filtered.written_before < ENOUGH_WRITTEN and not config.solved_inside):
        return []
    value = float(getattr(config.filter_settings, name))
    proposed = value / 2 if name == "energy" else (1 + value) / 2
    reason = f"only {100 * written[low]:.0f} % of the residual is written: the filter '{config.update_filter}'"
    reason += " leaves no more" if config.solved_inside else f" took it down from {100 * filtered.written_before:.0f} %"
    return [Fault(f"filter_{name}", value, _two_digits(proposed), reason)]


def _of_room(left: Mapping[str, tuple[int, int]], requests: int, config: EditConfig) -> list[Fault]:
    """A null space that is nearly used up is at fault before the weight that holds an update back in it."""
    if not left:
        return []
    assert isinstance(config, AlphaEditConfig)
    name = min(left, key=lambda name: left[name][0])
    free, whole = left[name]
    if free >= ROOM * requests:
        return []
    reason = (
        f"the null space of '{name}' is nearly used up: earlier facts leave {free} of its {whole} dimensions to this "
        f"batch of {requests}"
    )
    threshold = config.nullspace_threshold
    return [Fault("nullspace_threshold", threshold, _two_digits(5 * threshold), reason)]


def _key_dimension(layer: LayerUpdate) -> int:
    return int(layer.keys.shape[1])


def _two_digits(value: float) -> float:
    return float(f"{value:.2g}")


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def frobenius(matrix: Tensor) -> float:
    """Frobenius norm in double precision."""
    return float(matrix.double().norm())
