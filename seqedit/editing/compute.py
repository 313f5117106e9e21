"""From requests to an adapter, and from an adapter to an edited model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from seqedit.adapters.adapter import Adapter, BaseModel
from seqedit.adapters.delta import Dense, LowRank
from seqedit.adapters.peft_targets import misread_by_peft
from seqedit.editing.diagnosis import diagnose, frobenius
from seqedit.errors import InputError, NumericsError
from seqedit.facts.requests import Request, check_batch
from seqedit.filters.originals import Originals
from seqedit.forward.access import position_limit
from seqedit.forward.protocols import CausalLM, Tokenizer
from seqedit.methods import get_method
from seqedit.methods.config import ClosedFormConfig, EditConfig
from seqedit.methods.interface import Update, Workbench, add_to_weight, scratch
from seqedit.models.anatomy import Anatomy, Projection, anatomy
from seqedit.models.gguf import gguf_source
from seqedit.moments.second_moments import SecondMoments
from seqedit.parallel.ranks import Ranks
from seqedit.solver.factorizations import Factorizations
from seqedit.solver.preconditioners import Preconditioner, preserved_norm
from seqedit.solver.sequence import Held
from seqedit.support.digests import json_digest
from seqedit.text.framing import told_framing
from seqedit.text.lengths import check_requests
from seqedit.text.lookup import check_context_templates, tokenize_request
from seqedit.version import __version__


def compute_adapter(
    model: CausalLM,
    tokenizer: Tokenizer,
    requests: Sequence[Request],
    method: str,
    config: EditConfig,
    *,
    base_model: BaseModel,
    second_moments: SecondMoments | None = None,
    context_templates: Sequence[Sequence[str]],
    factors: Factorizations | None = None,
    earlier_keys: Mapping[str, Tensor] | None = None,
    seed: int | None = None,
    max_tokens: int = 8192,
    target_values: Tensor | None = None,
    ranks: Ranks | None = None,
    in_force: int = 0,
    held: Mapping[str, Held] | None = None,
    originals: Originals | None = None,
    anchors: Mapping[int, float] | None = None,
    statistics: Mapping[str, Tensor] | None = None,
) -> Adapter:
    """Compute a batch of edits as an adapter; the model's weights are bit-equal before and after.

    Args:
        model: The causal LM in its current (possibly edited) state.
        tokenizer: Its fast tokenizer.
        requests: The batch.
        method: Name of a registered method.
        config: Its settings.
        base_model: The unedited model that the adapter belongs to.
        second_moments: C0 of every edited layer, for the methods that need them.
        context_templates: Groups of context templates.
        factors: Factorizations kept from earlier batches of the run, for the same moments.
        earlier_keys: Module name -> (N, d_in) keys of earlier edits, protected where the config asks for it.
        seed: Of whatever is drawn at random, the context templates included.
        max_tokens: Padded tokens of one forward pass.
        target_values: (n, d) target values to use instead of optimising them; closed forms only.
        ranks: Processes that hold the model and do a share of the work; None for this one alone.
        in_force: Edits that are in force already, for the diagnosis' load.
        held: Module name -> what is in force of a joint sequence; used where the config asks for one.
        originals: Weights before all edits, kept from earlier batches, for filters on the update; None where the model
            is unedited.
        anchors: Layer -> norm of pilot facts' values on the unedited model (`seqedit.editing.pilot`), for the setting
            ``target_norm`` pilot.
        statistics: Module name -> statistics of the rows of earlier edits in force, for methods that normalise by them.

    Raises:
        InputError: a bad request, method, layer or setting.
        NumericsError: a system that is singular, or an update that is not finite.
    """
    chosen = get_method(method)
    if not isinstance(config, chosen.config):
        raise InputError(f"method '{method}' needs a {chosen.config.__name__}, got {type(config).__name__}")
    check_batch(requests)
    _check_target_values(target_values, requests, chosen.needs_second_moments, method)
    contexts = check_context_templates(context_templates)
    parts = anatomy(model)
    projections = parts.projections_of(config.layers)
    if not chosen.reads_second_moments(config):
        second_moments = None
    elif second_moments is None:
        raise InputError(f"method '{method}' needs second moments of the edited layers, none were given")
    if second_moments is not None:
        second_moments.require(projections)
    for request in requests:  # before anything is computed: every subject and target has tokens
        tokenize_request(tokenizer, request, with_target=True)
    check_requests(tokenizer, requests, position_limit(model), contexts)
    made = factors
    if made is None and chosen.needs_second_moments:
        made = Factorizations(second_moments or SecondMoments.identity(projections))
    protected = dict(earlier_keys or {}) if protects_earlier(config) else {}
    joint = dict(held or {}) if solves_jointly(config) else {}
    if joint:
        assert isinstance(config, ClosedFormConfig)
        a = config.relaxation(len(requests))
        weighed = {name: one.weighed_keys(a) for name, one in joint.items()}
        protected = {
            name: torch.cat([part[name].double().cpu() for part in (weighed, protected) if name in part])
            for name in sorted({*weighed, *protected})
        }

    def precondition(projection: Projection) -> Preconditioner:
        if chosen.precondition is None or made is None:
            raise InputError(f"method '{method}' is no closed form and has no second moments")
        inner = chosen.precondition(made, projection, config)
        return made.protected(projection, inner, protected.get(projection.name))

    def preserved(projection: Projection) -> float:
        assert chosen.precondition is not None
        assert made is not None
        return preserved_norm(chosen.precondition(made, projection, config), projection.matrix())

    bench = Workbench(
        model, tokenizer, parts, contexts, precondition, max_tokens, seed or 0, target_values, ranks,
        held=lambda p: joint[p.name].to(p.weight.device) if p.name in joint else None,
        originals=_originals(originals, projections, config),
        anchors=anchors or {}, preserved=preserved,
        statistics=lambda p: (statistics or {}).get(p.name),
    )  # fmt: skip
    with scratch(projections):
        update = chosen.compute(bench, requests, config)
    deltas = _deltas(update)
    diagnosis = diagnose(
        update, config, {p.name: frobenius(p.matrix()) for p in projections},
        {name: frobenius(delta.dense()) for name, delta in deltas.items()}, in_force,
    )  # fmt: skip
    return Adapter(
        deltas=deltas,
        requests=tuple(requests),
        method={"name": method, **config.to_dict()},
        base_model=base_model,
        keys={layer.projection.name: layer.keys.float().cpu() for layer in update.layers},
        target_values=update.target_values.float().cpu(),
        fan_in_fan_out=_fan_in_fan_out(parts, config.layers),
        as_parameters=misread_by_peft(model, parts.layers, list(deltas)),
        provenance={
            "context_templates": [list(group) for group in contexts],
            "context_templates_digest": json_digest([list(group) for group in contexts]),
            "protected_keys": max((int(keys.shape[0]) for keys in protected.values()), default=0),
            "losses": [round(loss, 6) for loss in update.losses],
            "optimisation_updates": list(update.updates),
            "diagnosis": diagnosis.to_dict(),
            **({"target_norms": {str(layer): norm for layer, norm in anchors.items()}} if anchors else {}),
            **_moments_used(second_moments),
            "seed": seed,
            **told_framing(requests),
            "seqedit": __version__,
            "torch": str(torch.__version__),
            **({"gguf_source": dict(quantised)} if (quantised := gguf_source(model)) else {}),
            **update.provenance,
        },
        residuals={
            layer.projection.name: layer.residuals.float().cpu()
            for layer in update.layers
            if layer.residuals is not None
        },
        statistics={
            layer.projection.name: layer.statistics.float().cpu()
            for layer in update.layers
            if layer.statistics is not None
        },
    )


def _check_target_values(values: Tensor | None, requests: Sequence[Request], closed_form: bool, method: str) -> None:
    if values is None:
        return
    if not closed_form:
        raise InputError(f"method '{method}' is no closed form, so it cannot be given target values")
    if values.ndim != 2 or len(values) != len(requests):
        raise InputError(f"target_values must be ({len(requests)}, d), got {tuple(values.shape)}")


def filters_updates(config: EditConfig) -> bool:
    """Whether the settings ask for a filter on the update."""
    return isinstance(config, ClosedFormConfig) and config.update_filter != "none"


def _originals(found: Originals | None, projections: Sequence[Projection], config: EditConfig) -> Originals | None:
    if not filters_updates(config):
        return None
    found = found or Originals({p.name: p.matrix().clone() for p in projections})
    found.hold(p.name for p in projections)
    return found


def protects_earlier(config: EditConfig) -> bool:
    """Whether the settings ask for the keys of earlier edits to be protected."""
    return isinstance(config, ClosedFormConfig) and config.protect_earlier


def protects_superseded(config: EditConfig) -> bool:
    """Whether the keys of facts that were edited again are among those protected."""
    return not isinstance(config, ClosedFormConfig) or config.protects_superseded


def solves_jointly(config: EditConfig) -> bool:
    """Whether the settings ask for a batch to be solved with all facts in force."""
    return isinstance(config, ClosedFormConfig) and config.sequence == "joint"


def _moments_used(moments: SecondMoments | None) -> dict[str, Any]:
    return {
        "second_moments": None if moments is None else moments.digest,
        "second_moment_tokens": None if moments is None else moments.tokens,
    }


def _deltas(update: Update) -> dict[str, LowRank | Dense]:
    deltas: dict[str, LowRank | Dense] = {}
    for layer in update.layers:
        name = layer.projection.name
        if isinstance(layer.delta, torch.Tensor):
            deltas[name] = Dense(layer.delta.float().contiguous().cpu())
        else:
            B, A = layer.delta
            few = A.shape[0] <= min(B.shape[0], A.shape[1])
            deltas[name] = LowRank.from_factors(B, A) if few else Dense((B @ A).float().contiguous().cpu())
        if not bool(torch.isfinite(deltas[name].dense()).all()):
            raise NumericsError(f"the update of '{name}' is not finite in float32; lower learning_rate")
    return deltas


def _fan_in_fan_out(parts: Anatomy, layers: Sequence[int]) -> bool:
    kinds = {projection.transposed for projection in parts.projections_of(layers)}
    if len(kinds) > 1:
        raise InputError("the edited layers mix Conv1D and Linear modules, which one LoRA checkpoint cannot hold")
    return kinds.pop()


def apply_adapter(model: CausalLM, adapter: Adapter) -> None:
    """Add an adapter's deltas to the weights of a model, in place.

    For a sequence of adapters use the ledger, which recomposes the weights from the base and so can take any of
    them back exactly.

    Raises:
        InputError: a module of the adapter that the model does not have, or of another shape; nothing is written.
    """
    by_name = {projection.name: projection for projection in anatomy(model).projections}
    for name, delta in adapter.deltas.items():
        if name not in by_name:
            raise InputError(f"the model has no FFN output projection '{name}'; the adapter is for another model")
        if tuple(by_name[name].matrix().shape) != delta.shape:
            raise InputError(
                f"'{name}' is {tuple(by_name[name].matrix().shape)} in the model and {delta.shape} in the adapter"
            )
    for name, delta in adapter.deltas.items():
        add_to_weight(by_name[name], by_name[name].matrix().clone(), delta.dense())
