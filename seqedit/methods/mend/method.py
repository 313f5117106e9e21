"""MEND (Mitchell et al. 2022, arXiv 2110.11309): the batch's gradient, transformed by a trained hypernetwork."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from seqedit.errors import InputError
from seqedit.facts.requests import Request
from seqedit.methods.config import EditConfig
from seqedit.methods.mend.place import read_layers
from seqedit.methods.registry import register
from seqedit.support.config import check_positive, setting

if TYPE_CHECKING:
    from seqedit.methods.interface import Update, Workbench


@dataclass(frozen=True, kw_only=True)
class MendConfig(EditConfig):
    """Settings of MEND; the layers are those that its hypernetwork was trained for."""

    preset_layers: ClassVar[bool] = False

    hypernetwork: str = setting("", "directory written by 'seqedit train-mend', or demo-llama for the shipped one")
    scale: float = setting(1.0, "factor on the learnt edit rates")

    def __post_init__(self) -> None:
        check_positive(self, "scale")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Build from JSON types; layers that are not given are read from the hypernetwork, others must agree with it.

        Raises:
            InputError: also for a hypernetwork that is missing, or was trained for other layers.
        """
        built = super().from_dict(data)
        if not built.hypernetwork:
            if not built.layers:
                raise InputError(_NEEDED)
            return built
        return replace(built, layers=_agreed(built))


_NEEDED = (
    "method 'mend' needs a trained hypernetwork: train one with 'seqedit train-mend' and give its directory, "
    "--set hypernetwork=DIR"
)


def _agreed(config: MendConfig) -> tuple[int, ...]:
    trained = read_layers(config.hypernetwork)
    if config.layers and sorted(config.layers) != list(trained):
        raise InputError(
            f"the hypernetwork {config.hypernetwork} was trained for layers {','.join(map(str, trained))}, asked for "
            f"are {','.join(map(str, config.layers))}; give those, or none"
        )
    return trained


@register("mend", MendConfig, None)
def mend(bench: Workbench, requests: Sequence[Request], config: MendConfig) -> Update:
    """A trained hypernetwork's transform of the batch's gradient (MEND)."""
    from seqedit.methods.interface import add_to_weight
    from seqedit.methods.mend.files import load_hypernetwork
    from seqedit.methods.mend.gradients import token_terms
    from seqedit.methods.training import losses_of, target_prompts, trained_update

    if not config.hypernetwork:
        raise InputError(_NEEDED)
    layers = _agreed(config)
    trained = load_hypernetwork(config.hypernetwork)
    projections = trained.require(bench.parts)
    prompts = target_prompts(bench.tokenizer, requests)
    terms, _ = token_terms(bench.model, bench.parts, prompts, layers, max_tokens=bench.max_tokens)
    deltas = []
    for layer, projection in zip(layers, projections, strict=True):
        network = trained.network.to(projection.weight.device)
        B, A = network.factors(layer, terms[layer].u, terms[layer].delta)
        deltas.append((config.scale * B.double(), A.double()))
    for projection, (B, A) in zip(projections, deltas, strict=True):
        add_to_weight(projection, projection.matrix().clone(), B @ A)
    losses = losses_of(bench.model, prompts, max_tokens=bench.max_tokens)
    used = {
        "digest": trained.digest,
        "trained_on": trained.base_model.fingerprint,
        "rates": {str(layer): float(trained.network.rate(layer)) for layer in layers},
    }
    return trained_update(bench, requests, layers, deltas, losses, 1, {"hypernetwork": used})
