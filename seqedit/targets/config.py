"""Settings of the target-value optimisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from seqedit.errors import InputError
from seqedit.support.config import Config, check_positive, setting

InitNorm = Literal["perturbed", "ffn"]
TargetNorm = Literal["free", "pilot"] | float


@dataclass(frozen=True, kw_only=True)
class TargetValueConfig(Config):
    """Optimisation of the target values."""

    learning_rate: float = setting(0.5, "Adam's learning rate (v_lr)")
    steps: int = setting(25, "optimisation steps; the last only looks at the loss (v_num_grad_steps)")
    weight_decay: float = setting(0.5, "weight of |delta| / |init|^2 (v_weight_decay)")
    clamp_norm_factor: float = setting(4.0, "bound on |delta| / |init|")
    init_norm: InitNorm = setting("perturbed", "what |init| is the norm of: the perturbed output, or the FFN's (ROME)")
    kl_factor: float = setting(0.0625, "weight of the KL divergence at '{subject} is a'")
    stop_below: float = setting(0.05, "a request is done when its loss is below this")
    stop_at_argmax: bool = setting(False, "a request is also done when all its target tokens are the argmax (ENCORE)")
    argmax_kl: float | None = setting(None, "stop at the argmax only if the weighted KL is at most this; none for any")
    argmax_nll_factor: float = setting(1.0, "weight of the likelihood in steps after the target is the argmax")

    target_norm: TargetNorm = setting(
        "free", "norm that target values are rescaled to: free, pilot (NAS: that of pilot facts), or a number"
    )
    trust_region: float | None = setting(
        None, "bound on a request's update in the norm of C, relative to the weights' (root mean square over text)"
    )

    def __post_init__(self) -> None:
        check_positive(self, "learning_rate", "clamp_norm_factor", "trust_region")
        if isinstance(self.target_norm, float) and not self.target_norm > 0:
            raise InputError(f"setting 'target_norm' must be free, pilot or greater than 0, got {self.target_norm:g}")
        if self.steps < 1:
            raise InputError(f"setting 'steps' must be at least 1, got {self.steps}")
        check_positive(self, "weight_decay", "kl_factor", zero=True)
