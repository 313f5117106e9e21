"""Settings of the editing methods, as frozen dataclasses whose fields carry their help texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from seqedit.errors import InputError
from seqedit.support.config import Config, check_positive, setting
from seqedit.targets.config import TargetValueConfig

Spread = Literal["single", "even", "sqrt", "boundary"]
Sequence = Literal["separate", "joint"]
TargetPlace = Literal["layer output", "ffn output"]


@dataclass(frozen=True, kw_only=True)
class EditConfig(Config):
    """What every editing method can be told.

    Attributes:
        preset_layers: Whether a preset's common layers are meant for the method; not where it brings its own.
        lifelong: Whether an update depends on the statistics of earlier edits in force (`Workbench.statistics`).
        target_place: Of which output the method's target values are.
        unrecorded: What settings meant in versions that did not have them yet and so recorded none
            (`seqedit.methods.recorded`), where that is not their default.
    """

    preset_layers: ClassVar[bool] = True
    lifelong: ClassVar[bool] = False
    target_place: ClassVar[TargetPlace] = "layer output"
    unrecorded: ClassVar[Mapping[str, Any]] = {}

    layers: tuple[int, ...] = setting((), "layers to edit")


@dataclass(frozen=True, kw_only=True)
class ClosedFormConfig(EditConfig, TargetValueConfig):
    """Settings of the closed-form methods (`seqedit.solver.closed_form`).

    ``written_by`` names the setting that an update's written share s = q / (q + a weight) goes by; None where it is
    none of them, as the weight cancels. ``solved_together`` says whether a batch is solved as one, or each alone;
    ``protects_superseded`` whether keys of facts that were edited again are protected like those in force.
    """

    written_by: ClassVar[str | None] = "second_moment_weight"
    solved_together: ClassVar[bool] = True
    protects_superseded: ClassVar[bool] = True

    spread: Spread = setting("even", "how the residual is distributed over the layers: single, even, sqrt or boundary")
    a: float = setting(1.0, "relaxation of the equality constraint: 0 strict, 1 MEMIT")
    second_moment_weight: float = setting(15_000.0, "lambda in C = lambda C0 (mom2_update_weight)")
    shrinkage: float = setting(0.0, "shrinkage of C0 towards its mean diagonal, 0 to 1")
    frobenius_weight: float = setting(0.0, "weight of |Delta|^2 (Frobenius), added to C (ENCORE)")
    protect_following: bool = setting(False, "let C grow by the keys of the prompts' tokens after the subject")
    merge_same_subject: bool = setting(False, "one target value for all requests of a subject (MEMIT-Merge)")
    protect_earlier: bool = setting(False, "let C grow by the keys of the ledger's active edits")

    sequence: Sequence = setting(
        "separate", "what a batch is solved for: its own facts, or (joint) with all facts in force (OTE-SE)"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "second_moment_weight")
        check_positive(self, "a", "frobenius_weight", zero=True)
        if not 0 <= self.shrinkage <= 1:
            raise InputError(f"setting 'shrinkage' must be between 0 and 1, got {self.shrinkage}")
        if self.spread == "single" and len(self.layers) > 1:
            raise InputError(f"spread 'single' edits one layer, got layers {list(self.layers)}; choose even or sqrt")
        if self.spread == "boundary" and len(self.layers) == 1:
            raise InputError(
                f"spread 'boundary' edits the first and the last of several layers, got {list(self.layers)}"
            )
        if self.spread == "boundary" and not self.solved_together:
            raise InputError("spread 'boundary' needs a method that solves a batch as one; choose memit, emmet or pmet")

        if self.sequence == "joint":
            self._check_joint()

    def _check_joint(self) -> None:
        if not self.solved_together:
            raise InputError("sequence 'joint' needs a method that solves a batch as one; choose memit, emmet or pmet")
        if not self.a > 0:
            raise InputError(
                "sequence 'joint' needs a > 0: under strict equality no sum of keys has an inverse; try a=0.1"
            )
        if self.protect_following:
            raise InputError("sequence 'joint' cannot be combined with protect_following, whose keys are not kept")

    @property
    def identity(self) -> bool:
        """Whether the identity may stand for C0 (ROME without ``mom2_adjustment``).

        With s = 1, C is a multiple of the identity; at a = 0 the multiple cancels in Delta = R D^-1 K^T C^-1, unless
        something without it is added to C.
        """
        added = self.frobenius_weight or self.protect_earlier or self.protect_following
        return self.shrinkage == 1 and self.a == 0 and not added

    def relaxation(self, requests: int) -> float:
        """The a that a batch of so many requests is solved with."""
        return self.a
