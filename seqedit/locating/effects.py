"""Average effects of restorations with their intervals, and the layers to edit that follow from them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

SPREAD_OVER = 5
"""At most so many layers are suggested, as many as MEMIT edits in GPT2-XL."""


@dataclass(frozen=True)
class Interval:
    """A mean over facts.

    Attributes:
        mean: The mean; None without facts.
        ci_low, ci_high: 95 % interval of the mean (Student's t); None for fewer than two facts.
        facts: How many facts.
    """

    mean: float | None
    ci_low: float | None
    ci_high: float | None
    facts: int

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types."""
        return asdict(self)


def mean_interval(values: Tensor, level: float = 0.95) -> Interval:
    """Mean of (facts,) values with Student's t interval; facts are taken as independent draws."""
    count = len(values)
    if count < 2:
        return Interval(float(values[0]) if count else None, None, None, count)
    # Deferred: scipy.stats takes a second that commands without intervals should not cost.
    from scipy.stats import t

    mean = float(values.double().mean())
    half = float(t.ppf((1 + level) / 2, count - 1)) * float(values.double().std()) / count**0.5
    return Interval(mean, mean - half, mean + half, count)


@dataclass(frozen=True, eq=False)
class Effects:
    """Effects of one kind of restoration at one class of token.

    Attributes:
        values: (facts, layers) float64: p(answer) restored - p(answer) corrupted.
    """

    values: Tensor

    def points(self) -> list[Interval]:
        """Average effect of each layer."""
        return [mean_interval(self.values[:, layer]) for layer in range(self.values.shape[1])]


@dataclass(frozen=True)
class Suggestion:
    """Layers to edit.

    Attributes:
        layers: In increasing order, the last of them the peak; empty where no fact could tell.
        peak: The layer whose FFN window has the largest average effect at the last subject token; for methods that
            edit one layer.
        effect: That effect.
        clear: Whether its interval lies above 0.
        alike: Other layers that cannot be told from the peak: the 95 % interval of the difference, paired by fact,
            includes 0 (all of them where fewer than two facts were traced).
    """

    layers: tuple[int, ...]
    peak: int | None
    effect: Interval
    clear: bool
    alike: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types."""
        return {**asdict(self), "layers": list(self.layers), "alike": list(self.alike)}


def suggest_layers(effects: Effects) -> Suggestion:
    """Layers to edit, from the FFN's effects at the last subject token.

    The peak is the layer in the middle of the window with the largest effect; the suggestion is a fifth of the model's
    layers (at least one, at most five) that end there, because what is written at a layer can only be read above it.
    This is a heuristic. Tracing says little about which layer is best to edit (Hase et al. 2023, arXiv 2301.04213).
    """
    values = effects.values
    count = values.shape[1]
    if not len(values):
        return Suggestion((), None, Interval(None, None, None, 0), False, ())
    peak = int(values.mean(0).argmax())
    effect = mean_interval(values[:, peak])
    width = min(SPREAD_OVER, max(1, count // 5))
    differences = [mean_interval(values[:, peak] - values[:, layer]) for layer in range(count)]
    return Suggestion(
        layers=tuple(range(max(0, peak - width + 1), peak + 1)),
        peak=peak,
        effect=effect,
        clear=effect.ci_low is not None and effect.ci_low > 0,
        alike=tuple(i for i, d in enumerate(differences) if i != peak and (d.ci_low is None or d.ci_low <= 0)),
    )
