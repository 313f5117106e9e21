"""An editor: a model with all that computing a batch on it needs, made once and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from seqedit.adapters.adapter import Adapter
from seqedit.adapters.delta import LowRank
from seqedit.editing.compute import compute_adapter, protects_earlier, protects_superseded, solves_jointly
from seqedit.editing.pilot import pilot_norm, pilot_settings
from seqedit.errors import InputError
from seqedit.facts.requests import Request
from seqedit.filters.originals import Originals
from seqedit.keys.templates import sample_context_templates
from seqedit.methods import get_method
from seqedit.methods.config import ClosedFormConfig, EditConfig
from seqedit.methods.ultraedit.statistics import by_module
from seqedit.models.anatomy import Projection
from seqedit.models.edited import EditedModel
from seqedit.moments.second_moments import SecondMoments
from seqedit.parallel.ranks import Ranks
from seqedit.solver.factorizations import Factorizations
from seqedit.solver.preconditioners import Preconditioner
from seqedit.solver.sequence import Held
from seqedit.targets.config import TargetValueConfig

Moments = SecondMoments | Callable[[tuple[int, ...]], SecondMoments]
"""One set of second moments for all layers, or what provides those of a choice of layers."""


class Editor:
    """Computes batches on whatever state its model is in; knows no ledger, and writes no weights but to sample.

    Args:
        edited: The loaded model.
        moments: Second moments of every layer that will be edited, or what provides those of some layers when they
            are first needed; None where no method needs them.
        context_templates: Groups of context templates; None samples them from the unedited model when first needed.
        seed: Seed of that sampling, and of whatever else is drawn.
        ranks: Processes that hold the model and do a share of the work; None for this one alone.
    """

    def __init__(
        self,
        edited: EditedModel,
        moments: Moments | None,
        *,
        context_templates: Sequence[Sequence[str]] | None = None,
        seed: int = 0,
        ranks: Ranks | None = None,
    ) -> None:
        self.edited, self.moments, self.seed, self.ranks = edited, moments, seed, ranks
        self._templates = context_templates
        self._factors: dict[tuple[int, ...], tuple[SecondMoments, Factorizations]] = {}
        self._identities: dict[tuple[int, ...], Factorizations] = {}
        self._factored: Moments | None = moments
        self.originals = Originals(edited.base)
        self._anchors: dict[tuple[int, str, TargetValueConfig], float] = {}

    @property
    def context_templates(self) -> Sequence[Sequence[str]]:
        """The given context templates, or ones that are sampled when they are first needed."""
        if self._templates is None:
            with self.edited.unedited():  # not from the current state: a resumed run samples the same ones
                self._templates = sample_context_templates(self.edited.model, self.edited.tokenizer, seed=self.seed)
        return self._templates

    def compute(
        self,
        requests: Sequence[Request],
        method: str,
        config: EditConfig,
        *,
        earlier: Callable[[], Iterable[Adapter]] | None = None,
        context_templates: Sequence[Sequence[str]] | None = None,
        seed: int | None = None,
        target_values: Tensor | None = None,
        in_force: int = 0,
    ) -> Adapter:
        """Compute a batch on the state that the model is in; see `compute_adapter` for the errors.

        Args:
            requests: The batch.
            method: Name of the method.
            config: Its settings.
            earlier: Gives the adapters in force, whose keys are protected; asked where the settings want it.
            context_templates: Templates instead of the editor's.
            seed: Seed instead of the editor's.
            target_values: (n, d) target values to use instead of optimising them; closed forms only.
            in_force: Edits that are in force already, for the diagnosis' load.
        """
        templates = context_templates or self.context_templates
        moments, factors = self._moments_of(method, config)
        protects, joint = protects_earlier(config), solves_jointly(config)
        before = list(earlier()) if earlier is not None and (protects or joint or config.lifelong) else []
        held = held_of(before, requests) if joint else {}
        # Keys of a joint sequence enter by it, each with its residual; what other methods wrote is protected as it is.
        kept = [one for one in before if not (joint and one.residuals)] if protects else []
        keys = keys_of(kept) if protects_superseded(config) else keys_in_force(kept, requests)
        return compute_adapter(
            self.edited.model, self.edited.tokenizer, requests, method, config,
            base_model=self.edited.base_model, second_moments=moments, factors=factors,
            context_templates=templates, earlier_keys=keys or None, seed=self.seed if seed is None else seed,
            target_values=target_values, ranks=self.ranks, in_force=in_force, held=held or None,
            originals=self.originals,
            anchors=self.anchors(config) if target_values is None else None,
            statistics=by_module(dict(one.statistics) for one in before) if config.lifelong else None,
        )  # fmt: skip

    def anchors(self, config: EditConfig) -> dict[int, float]:
        """Layer -> norm of the pilot facts' values there, where the settings ask for it; found once and kept."""
        if not isinstance(config, ClosedFormConfig) or config.target_norm != "pilot":
            return {}
        found = {}
        for layer in config.target_layers:
            key = layer, config.target_place, pilot_settings(config)
            if key not in self._anchors:
                self._anchors[key] = pilot_norm(self.edited, config, layer, self.ranks)
            found[layer] = self._anchors[key]
        return found

    def moments_of(self, choices: Iterable[tuple[int, ...]]) -> Mapping[str, Tensor]:
        """Module name -> C0 of the modules of some choices of layers; empty where the editor has no moments."""
        found: dict[str, Tensor] = {}
        for layers in choices if self.moments is not None else ():
            found |= self._factors_of(layers)[0].matrices
        return found

    def factorizations(self, layers: Sequence[int]) -> Factorizations:
        """What is factored of the second moments of some layers.

        Raises:
            InputError: the editor has no second moments.
        """
        if self.moments is None:
            raise InputError("second moments of the edited layers are needed, none were given")
        return self._factors_of(tuple(sorted(layers)))[1]

    def preconditioner(self, method: str, config: EditConfig, projection: Projection) -> Preconditioner | None:
        """C^-1 of a layer without earlier keys, as the method takes it; None for a method that is no closed form.

        Raises:
            InputError: the method needs second moments and the editor has none.
        """
        precondition = get_method(method).precondition
        if precondition is None:
            return None
        factors = self._moments_of(method, config)[1]
        if factors is None:
            raise InputError(f"method '{method}' needs second moments of the edited layers, none were given")
        return precondition(factors, projection, config)

    def _moments_of(self, method: str, config: EditConfig) -> tuple[SecondMoments | None, Factorizations | None]:
        chosen, layers = get_method(method), tuple(sorted(config.layers))
        if chosen.needs_second_moments and not chosen.reads_second_moments(config):
            if layers not in self._identities:
                moments = SecondMoments.identity(self.edited.parts.projections_of(layers))
                self._identities[layers] = Factorizations(moments)
            return None, self._identities[layers]
        if self.moments is None or not chosen.needs_second_moments:
            return None, None
        return self._factors_of(layers)

    def _factors_of(self, layers: tuple[int, ...]) -> tuple[SecondMoments, Factorizations]:
        """Second moments of some layers and what was factored of them, kept for the editor's life."""
        assert self.moments is not None
        if self._factored is not self.moments:  # others were given meanwhile
            self._factors, self._factored = {}, self.moments
        # Given moments are one set for all layers; a provider is asked once per choice of layers.
        layers = () if isinstance(self.moments, SecondMoments) else layers
        if layers not in self._factors:
            found = self.moments if isinstance(self.moments, SecondMoments) else self.moments(layers)
            self._factors[layers] = found, Factorizations(found)
        return self._factors[layers]


def keys_of(adapters: Iterable[Adapter]) -> dict[str, Tensor]:
    """Module name -> (N, d_in) keys of some edits, as stored with their adapters.

    A layer's key depends on the layers below only, which a batch has already written when it measures the key; so the
    stored keys are those of the model after the batch, as AlphaEdit's cache wants them.
    """
    found: dict[str, list[Tensor]] = {}
    for adapter in adapters:
        for name, keys in adapter.keys.items():
            found.setdefault(name, []).append(keys)
    return {name: torch.cat(parts) for name, parts in found.items()}


def live_rows(adapters: Sequence[Adapter], requests: Sequence[Request] = ()) -> list[list[int]]:
    """Which requests of each adapter are in force, when a new batch edits some facts again.

    Of a fact that was edited more than once the last edit counts.

    Args:
        adapters: Those in force, in composing order.
        requests: The new batch.
    """
    new = {request.fact for request in requests}
    last = {request.fact: (n, i) for n, one in enumerate(adapters) for i, request in enumerate(one.requests)}
    return [
        [i for i, r in enumerate(one.requests) if r.fact not in new and last[r.fact] == (n, i)]
        for n, one in enumerate(adapters)
    ]


def keys_in_force(adapters: Sequence[Adapter], requests: Sequence[Request] = ()) -> dict[str, Tensor]:
    """As `keys_of`, of the facts in force alone: what is to be written again must not be held fast.

    Args:
        adapters: Those in force, in composing order.
        requests: The new batch.
    """
    found: dict[str, list[Tensor]] = {}
    for one, live in zip(adapters, live_rows(adapters, requests), strict=True):
        for name, keys in one.keys.items():
            found.setdefault(name, []).append(keys[live] if len(keys) == len(one.requests) else keys)
    return {name: torch.cat(parts) for name, parts in found.items()}


def held_of(adapters: Sequence[Adapter], requests: Sequence[Request] = ()) -> dict[str, Held]:
    """Module name -> what is in force of a joint sequence (`seqedit.solver.sequence`).

    Of a fact that was edited more than once the last edit counts, and none that the new batch edits again: keys and
    residuals of the others leave the sums (OTE-SE's rule for conflicts), while their updates are still in the weights.
    Adapters without residuals belong to the weights that the sequence begins with.

    Args:
        adapters: Those in force, in composing order.
        requests: The new batch.
    """
    rows = live_rows(adapters, requests)
    found: dict[str, Held] = {}
    for name in dict.fromkeys(name for one in adapters for name in one.residuals):
        keys, residuals, written = [], [], []
        for n, one in enumerate(adapters):
            if name not in one.residuals:
                continue
            keys.append(one.keys[name][rows[n]])
            residuals.append(one.residuals[name][rows[n]])
            delta = one.deltas[name]
            written.append((delta.B, delta.A) if isinstance(delta, LowRank) else delta.delta)
        found[name] = Held(torch.cat(keys), torch.cat(residuals), tuple(written))
    return found
