"""How facts are traced: settings alone."""

from __future__ import annotations

from dataclasses import dataclass

from seqedit.errors import InputError


@dataclass(frozen=True)
class TraceConfig:
    """How facts are traced.

    Attributes:
        samples: Noise samples of one prompt.
        noise: Standard deviation of the noise, in standard deviations of the subjects' embeddings.
        window: How many consecutive layers' FFN or attention outputs are restored together; None means
            `default_window`.
        seed: Seed of the noise.
    """

    samples: int = 10
    noise: float = 3.0
    window: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise InputError(f"samples must be at least 1, got {self.samples}")
        if not 0 <= self.noise < float("inf"):
            raise InputError(f"noise must be a finite number that is not negative, got {self.noise}")
        if self.window is not None and self.window < 1:
            raise InputError(f"window must be at least 1 layer, got {self.window}")
