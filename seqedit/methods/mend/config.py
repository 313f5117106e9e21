"""Settings of MEND's training."""

from __future__ import annotations

from dataclasses import dataclass

from seqedit.errors import InputError
from seqedit.support.config import Config, check_positive, setting


@dataclass(frozen=True, kw_only=True)
class MendTraining(Config):
    """How a hypernetwork is trained."""

    layers: tuple[int, ...] = setting((), "layers whose FFN output projections it learns to edit")
    steps: int = setting(1000, "Adam steps, at most")
    learning_rate: float = setting(1e-3, "Adam's learning rate")
    batch_size: int = setting(8, "edits of one Adam step")
    edits_together: int = setting(1, "edits that are applied at once, their sum; divides batch_size")
    rank: int = setting(64, "rank of the blocks' low-rank maps")
    edit_rate: float | None = setting(None, "initial alpha; none to search it among powers of sqrt(10)")
    edit_weight: float = setting(0.1, "weight of the edit loss beside the locality loss (c_edit)")
    paraphrases: int = setting(2, "paraphrases of an edit that its loss looks at, beside the rewrite prompt")
    neighbors: int = setting(4, "neighbourhood prompts of an edit that its loss looks at")
    validation_share: float = setting(0.1, "share of the records, the last ones, held out for validation")
    validate_every: int = setting(50, "steps between validations, which also write the checkpoint")
    patience: int = setting(10, "training ends after this many validations without a lower loss")
    clip_norm: float = setting(100.0, "bound on the norm of the gradient of all parameters (grad_clip)")
    seed: int = setting(0, "of the initial weights, the order of the records and the prompts drawn")

    def __post_init__(self) -> None:
        check_positive(
            self, "steps", "learning_rate", "batch_size", "edits_together", "rank", "edit_rate", "edit_weight",
            "neighbors", "validate_every", "patience", "clip_norm",
        )  # fmt: skip
        check_positive(self, "paraphrases", zero=True)
        if self.batch_size % self.edits_together:
            raise InputError(
                f"setting 'edits_together' must divide 'batch_size', got {self.edits_together} and {self.batch_size}"
            )
        if not 0 < self.validation_share < 1:
            raise InputError(f"setting 'validation_share' must be between 0 and 1, got {self.validation_share}")
