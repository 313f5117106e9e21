"""What causal tracing of many facts found, averaged by class of token (ROME, arXiv 2202.05262, figure 2).

The *effect* of a restoration is p(answer) restored - p(answer) corrupted (ROME's indirect effect), averaged over the
noise samples, over the tokens of a class within a prompt, and then over the facts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqedit.facts.requests import Request
from seqedit.locating.config import TraceConfig as TraceConfig
from seqedit.locating.effects import Effects, Suggestion, mean_interval, suggest_layers
from seqedit.locating.prompts import LAST_SUBJECT, TOKEN_CLASSES
from seqedit.locating.tracer import KINDS


@dataclass(frozen=True)
class TracedFact:
    """One fact that the model knows.

    Attributes:
        request: The request it came from.
        answer: First token of the answer, as text.
        clean, corrupted: Probability of that token; the corrupted one averaged over the noise samples.
        effects: Kind -> class of token -> (layers,) float64.
    """

    request: Request
    answer: str
    clean: float
    corrupted: float
    effects: Mapping[str, Mapping[str, Tensor]]


@dataclass(frozen=True)
class Location:
    """What tracing found.

    Attributes:
        facts: The facts that were traced.
        unknown: Requests left out because the model's first answer is another one, with that answer.
        config: How they were traced, with the window that was used.
        noise_std: Standard deviation of the noise that was added to the embeddings.
        layers: How many layers the model has.
    """

    facts: tuple[TracedFact, ...]
    unknown: tuple[tuple[Request, str], ...]
    config: TraceConfig
    noise_std: float
    layers: int

    def effects(self, kind: str, token_class: str) -> Effects:
        """Average indirect effects per layer, over the facts that have a token of this class."""
        rows = [f.effects[kind][token_class] for f in self.facts if token_class in f.effects[kind]]
        return Effects(torch.stack(rows) if rows else torch.zeros(0, self.layers, dtype=torch.float64))

    def suggestion(self) -> Suggestion:
        """Layers to edit (see `suggest_layers`)."""
        return suggest_layers(self.effects("ffn", LAST_SUBJECT))

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON types; probabilities and effects are between -1 and 1."""

        def averaged(values: Sequence[float]) -> dict[str, Any]:
            return mean_interval(torch.tensor(values, dtype=torch.float64)).to_dict()

        return {
            "settings": {
                "samples": self.config.samples,
                "noise": self.config.noise,
                "noise_std": self.noise_std,
                "window": self.config.window,
                "seed": self.config.seed,
            },
            "layers": self.layers,
            "facts": {
                "given": len(self.facts) + len(self.unknown),
                "traced": len(self.facts),
                "unknown": len(self.unknown),
            },
            "clean": averaged([f.clean for f in self.facts]),
            "corrupted": averaged([f.corrupted for f in self.facts]),
            "total_effect": averaged([f.clean - f.corrupted for f in self.facts]),
            "effects": {
                kind: {name: [point.to_dict() for point in self.effects(kind, name).points()] for name in TOKEN_CLASSES}
                for kind in KINDS
            },
            "suggested": self.suggestion().to_dict(),
            "prompts": [
                {
                    "case_id": f.request.case_id,
                    "prompt": f.request.text,
                    "answer": f.answer,
                    "clean": f.clean,
                    "corrupted": f.corrupted,
                }
                for f in self.facts
            ],
            "left_out": [
                {"case_id": r.case_id, "prompt": r.text, "target_true": r.target_true, "answer": answer}
                for r, answer in self.unknown
            ],
        }
