"""Settings of the editing methods, as frozen dataclasses whose fields carry their help texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from seqedit.errors import InputError
from seqedit.filters import FilterName, FilterSettings, UpdateFilter, get_filter
from seqedit.support.config import Config, check_positive, setting
from seqedit.targets.config import TargetValueConfig

Spread = Literal["single", "even", "sqrt", "boundary", "replay"]
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
            (`seqedit.editing.recorded`), where that is not their default.
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
    ``filter_defaults`` are a filter's settings that were published for the method alone.
    """

    written_by: ClassVar[str | None] = "second_moment_weight"
    solved_together: ClassVar[bool] = True
    filter_defaults: ClassVar[Mapping[str, float]] = {}
    protects_superseded: ClassVar[bool] = True

    spread: Spread = setting(
        "even", "how the residual is distributed over the layers: single, even, sqrt, boundary or replay"
    )
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

    update_filter: FilterName = setting(
        "none", "what of an update is written: none (all of it), revive, sphere, rect, prune or nse"
    )
    filter_energy: float | None = setting(
        None, "share of the original weight's energy whose directions are kept from updates (revive 0.5, sphere 0.5)"
    )
    filter_share: float | None = setting(
        None, "share that is written: of the update's elements (rect 0.4), of the neurons' activation (nse 0.8)"
    )
    filter_strength: float | None = setting(
        None, "how much is removed along those directions: 1 all of it (sphere 0.8; 0.5 of alphaedit)"
    )
    filter_inside: bool = setting(
        False, "solve within what the filter leaves instead of filtering what is solved (revive, sphere; nse always)"
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
        if self.spread == "replay" and len(self.layers) == 1:
            raise InputError(
                f"spread 'replay' takes target values from the first of several layers to the others, got "
                f"{list(self.layers)}; choose single"
            )
        if self.spread == "boundary" and not self.solved_together:
            raise InputError("spread 'boundary' needs a method that solves a batch as one; choose memit, emmet or pmet")

        if self.sequence == "joint":
            self._check_joint()
        self._check_filter()

    @property
    def filter_settings(self) -> FilterSettings:
        """The filter's settings, with its own values where none are given."""
        chosen = self._filter
        if chosen is None:
            return FilterSettings()
        given = {"energy": self.filter_energy, "share": self.filter_share, "strength": self.filter_strength}
        values = {**chosen.own, **self.filter_defaults, **{k: v for k, v in given.items() if v is not None}}
        return FilterSettings(**{name: values[name] for name in chosen.own})

    @property
    def solved_inside(self) -> bool:
        """Whether a batch is solved within what its filter leaves."""
        return self.filter_inside or (self._filter is not None and self._filter.inside == "always")

    @property
    def _filter(self) -> UpdateFilter | None:
        return None if self.update_filter == "none" else get_filter(self.update_filter)

    def _check_filter(self) -> None:
        chosen, name = self._filter, self.update_filter
        for own in ("energy", "share", "strength"):
            value = getattr(self, f"filter_{own}")
            if value is None:
                continue
            if chosen is None or own not in chosen.own:
                raise InputError(f"setting 'filter_{own}' is not read with update_filter '{name}'; leave it out")
            if not 0 < value <= 1 or (own == "energy" and value == 1):
                bounds = "between 0 and 1" if own == "energy" else "greater than 0 and at most 1"
                raise InputError(f"setting 'filter_{own}' must be {bounds}, got {value}")
        if not self.filter_inside:
            return
        if chosen is None or chosen.inside == "never":
            raise InputError(f"filter_inside needs a projection, got update_filter '{name}'; choose revive or sphere")
        if self.filter_settings.strength != 1:
            raise InputError("filter_inside needs a projection; give filter_strength=1 with 'sphere'")

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
    def target_layers(self) -> tuple[int, ...]:
        """Layers that target values are optimised at, the one whose values are kept last."""
        if not self.layers:
            return ()
        first, last = min(self.layers), max(self.layers)
        return {"boundary": (first, last), "replay": (first,)}.get(self.spread, (last,))

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
