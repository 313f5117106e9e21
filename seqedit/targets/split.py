"""Target values and keys by several processes: what a batch of edits needs of the model, a share on every rank."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from seqedit.facts.requests import Request
from seqedit.forward.protocols import CausalLM, Tokenizer
from seqedit.models.anatomy import Anatomy
from seqedit.parallel.messages import Message
from seqedit.parallel.ranks import Job, Ranks
from seqedit.parallel.replica import Replica
from seqedit.support.shares import ProcessShare
from seqedit.targets.config import TargetValueConfig
from seqedit.targets.sites import LayerOutput, Site, Sublayers
from seqedit.targets.values import TargetValues, optimise_target_values

_SITES: Mapping[str, Callable[[Anatomy, int], Site]] = {"layer": LayerOutput, "sublayers": Sublayers}
"""Where workers can perturb; a site of the caller's own is the leader's work."""


def split_target_values(
    ranks: Ranks | None,
    model: CausalLM,
    parts: Anatomy,
    tokenizer: Tokenizer,
    requests: Sequence[Request],
    contexts: Sequence[Sequence[str]],
    layer: int,
    config: TargetValueConfig,
    *,
    site: Callable[[Anatomy, int], Site] = LayerOutput,
    merge_same_subject: bool = False,
    max_tokens: int = 8192,
    limits: Sequence[float] | None = None,
    norm: float | None = None,
) -> TargetValues:
    """`optimise_target_values`, its groups of requests divided among the ranks.

    Args:
        ranks: The processes; the other arguments and the errors are those of `optimise_target_values`.
        model: The causal LM.
        parts: Its anatomy.
        tokenizer: Its tokenizer.
        requests: n requests.
        contexts: Groups of context templates.
        layer: The last edited layer.
        config: Settings.
        site: Where in the layer to perturb.
        merge_same_subject: One value for all requests of a subject.
        max_tokens: Padded tokens of a group.
        limits: Bounds on the perturbations.
        norm: Norm that values are rescaled to.
    """
    name = next((name for name, known in _SITES.items() if known is site), None)
    # One request is one group: orders to others would cost and give nothing (ROME makes one call per request).
    if ranks is None or not ranks.holds(model) or name is None or len(requests) == 1:
        return optimise_target_values(
            model, parts, tokenizer, requests, contexts, layer, config,
            site=site(parts, layer), merge_same_subject=merge_same_subject, max_tokens=max_tokens, limits=limits,
            norm=norm,
        )  # fmt: skip
    answers: list[Message] = []
    ranks.run(model, "target_values", {
        "requests": [request.to_dict() for request in requests], "contexts": [list(group) for group in contexts],
        "layer": layer, "config": {f.name: getattr(config, f.name) for f in fields(TargetValueConfig)},
        "site": name, "merge_same_subject": merge_same_subject, "max_tokens": max_tokens,
        "limits": None if limits is None else list(limits), "norm": norm,
    }, answers.append)  # fmt: skip
    device = parts.projections[layer].weight.device
    found = [a for a in answers if a.fields["places"]]
    places = [place for answer in found for place in answer.fields["places"]]
    order = sorted(range(len(places)), key=places.__getitem__)

    def rows(name: str) -> Tensor:
        return torch.cat([answer.tensors[name].to(device) for answer in found])[order]

    def numbers(name: str) -> list[Any]:
        together = [number for answer in found for number in answer.fields[name]]
        return [together[i] for i in order]

    return TargetValues(
        rows("values"), rows("initial"), tuple(numbers("losses")), tuple(numbers("updates")),
        tuple(numbers("reached")), bounded=tuple(numbers("bounded")),
    )  # fmt: skip


def _target_values(replica: Replica, share: ProcessShare, given: Mapping[str, Any]) -> Message:
    found = optimise_target_values(
        replica.model, replica.parts, replica.tokenizer, [Request.from_dict(r) for r in given["requests"]],
        given["contexts"], given["layer"], TargetValueConfig.from_dict(given["config"]),
        site=_SITES[given["site"]](replica.parts, given["layer"]), merge_same_subject=given["merge_same_subject"],
        max_tokens=given["max_tokens"], limits=given["limits"], norm=given["norm"], share=share,
    )  # fmt: skip
    numbers = {name: getattr(found, name) for name in ("places", "losses", "updates", "reached", "bounded")}
    return Message(numbers, {"values": found.values, "initial": found.initial})


JOBS: Mapping[str, Job] = {"target_values": _target_values}
