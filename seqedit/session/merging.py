"""Several adapters as one, from what is stored with them alone: their sum, and PEFT's `ties` and `dare` to compare.

The joint solution of their keys and target values, which needs the model, is `seqedit.session.merge.solve_jointly`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from seqedit.errors import InputError
from seqedit.facts.requests import Request, check_batch
from seqedit.methods import get_method, method_names
from seqedit.methods.config import EditConfig, TargetPlace
from seqedit.support.suggestions import did_you_mean
from seqedit.version import __version__

if TYPE_CHECKING:
    from torch import Tensor

    from seqedit.adapters.adapter import Adapter
    from seqedit.adapters.delta import Delta

How = Literal["sum", "solve", "ties", "dare"]
HOWS: tuple[How, ...] = ("sum", "solve", "ties", "dare")


@dataclass(frozen=True)
class Part:
    """One adapter of a merge.

    Attributes:
        entry: Id of its entry.
        adapter: The adapter.
        live: Positions of its requests that are still in force; the others are left out of the merged entry.
    """

    entry: str
    adapter: Adapter
    live: tuple[int, ...]

    @property
    def requests(self) -> tuple[Request, ...]:
        """The requests that are still in force."""
        return tuple(self.adapter.requests[position] for position in self.live)


def check_how(how: str) -> None:
    """Refuse a way to merge that there is not.

    Raises:
        InputError: names those there are.
    """
    if how not in HOWS:
        raise InputError(f"entries are merged by one of {', '.join(HOWS)}, got {how!r}{did_you_mean(how, HOWS)}")


def check_parts(parts: Sequence[Part]) -> tuple[Request, ...]:
    """The requests of a merge.

    Raises:
        InputError: fewer than two entries, none of their facts in force, or adapters of two base models.
        RequestError: two entries say different things of one fact; names it.
    """
    if len(parts) < 2:
        raise InputError("a merge needs at least two entries")
    requests = tuple(request for part in parts for request in part.requests)
    if not requests:
        raise InputError("all facts of these entries are superseded; revert the entries instead of merging them")
    check_batch(requests)
    first = parts[0].adapter
    for part in parts[1:]:
        if part.adapter.base_model.fingerprint != first.base_model.fingerprint:
            raise InputError(f"entry {part.entry[:12]} belongs to another base model than {parts[0].entry[:12]}")
    return requests


def check_density(density: float) -> None:
    """Refuse a share that `merge_adapters` cannot keep of a delta.

    Raises:
        InputError: it does not lie between 0 and 1.
    """
    if not 0 < density < 1:
        raise InputError(f"density must lie between 0 and 1, got {density}; 'sum' keeps everything")


def merge_adapters(parts: Sequence[Part], how: How, *, density: float = 0.5, seed: int = 0) -> Adapter:
    """One adapter instead of several.

    Args:
        parts: The adapters, in composing order.
        how: ``sum``: their deltas' sum, the same weights as all of them together. ``ties``: PEFT's TIES (Yadav et al.
            2023, arXiv 2306.01708) on the deltas: the largest ``density`` of each is kept, signs are elected, and
            what agrees is averaged. ``dare``: PEFT's DARE (Yu et al. 2024, arXiv 2311.03099): a random ``density`` of
            each is kept and scaled up, then they are added up.
        density: Share of entries of a delta that is kept.
        seed: Of DARE's choice.

    Raises:
        InputError: as `check_parts`; an unknown ``how``; a density that is not between 0 and 1.
    """
    import torch

    from seqedit.adapters.adapter import Adapter
    from seqedit.adapters.sums import concatenate
    from seqedit.methods.ultraedit.statistics import by_module

    requests = check_parts(parts)
    settings: dict[str, Any] = {"name": "merge", "how": how, "entries": [part.entry for part in parts]}
    if how == "sum":
        deltas: Mapping[str, Delta] = concatenate(part.adapter for part in parts)
    elif how in ("ties", "dare"):
        check_density(density)
        settings |= {"density": density} | ({"seed": seed} if how == "dare" else {})
        deltas = _by_peft([part.adapter for part in parts], how, density, seed)
    else:
        raise InputError(f"adapters cannot be merged by '{how}' (known: sum, ties, dare)")
    return Adapter(
        deltas=deltas,
        requests=requests,
        method=settings,
        base_model=parts[0].adapter.base_model,
        keys=_keys(parts),
        target_values=_target_values(parts),
        fan_in_fan_out=parts[0].adapter.fan_in_fan_out,
        as_parameters=parts[0].adapter.as_parameters,
        provenance={
            "adapters": [part.adapter.digest for part in parts],
            "methods": [dict(part.adapter.method) for part in parts],
            "seqedit": __version__,
            "torch": str(torch.__version__),
        },
        residuals=_residuals(parts),
        statistics=by_module(dict(part.adapter.statistics) for part in parts),
    )


def _by_peft(adapters: Sequence[Adapter], how: How, density: float, seed: int) -> dict[str, Delta]:
    import torch
    from peft.utils.merge_utils import dare_linear, ties

    from seqedit.adapters.delta import Dense
    from seqedit.support.random_state import seeded

    deltas: dict[str, Delta] = {}
    with seeded(seed):  # PEFT draws from the global generator
        for name in sorted({name for adapter in adapters for name in adapter.deltas}):
            tensors = [a.deltas[name].dense(torch.float32) for a in adapters if name in a.deltas]
            weights = torch.ones(len(tensors))
            merged = ties(tensors, weights, density) if how == "ties" else dare_linear(tensors, weights, density)
            deltas[name] = Dense(merged.float().contiguous())
    return deltas


def _keys(parts: Sequence[Part]) -> dict[str, Tensor]:
    """Keys of the requests in force, module by module, for later edits to protect."""
    import torch

    found: dict[str, list[Tensor]] = {}
    for part in parts:
        for name, keys in part.adapter.keys.items():
            found.setdefault(name, []).append(keys[list(part.live)])
    return {name: torch.cat(keys).contiguous() for name, keys in found.items()}


def _residuals(parts: Sequence[Part]) -> dict[str, Tensor]:
    """Residuals of the requests in force, module by module; none unless all parts were solved in one sequence."""
    import torch

    modules = [set(part.adapter.residuals) for part in parts]
    if any(have != modules[0] or have != set(part.adapter.deltas) for have, part in zip(modules, parts, strict=True)):
        return {}
    rows = {name: [part.adapter.residuals[name][list(part.live)] for part in parts] for name in sorted(modules[0])}
    return {name: torch.cat(found).contiguous() for name, found in rows.items()}


def _target_values(parts: Sequence[Part]) -> Tensor | None:
    """Target values of the requests in force; None unless all parts have them for one and the same place."""
    import torch

    values = [part.adapter.target_values for part in parts]
    places = {(place_of(part.adapter.method), max(part.adapter.deltas, default="")) for part in parts}
    if len(places) > 1 or any(v is None for v in values):
        return None
    rows = [v[list(part.live)] for part, v in zip(parts, values, strict=True) if v is not None]
    return torch.cat(rows).contiguous()


def place_of(recorded: Mapping[str, Any]) -> tuple[TargetPlace, int | None]:
    """Where a method's target values are: the kind of output, and the last edited layer (spread replay: the first)."""
    method = recorded.get("solved_by") or recorded  # a joint solution's values are where its method's are
    layers, which = method.get("layers") or [], min if method.get("spread") == "replay" else max
    config = get_method(str(method["name"])).config if method.get("name") in method_names() else EditConfig
    return config.target_place, which(layers, default=None)
