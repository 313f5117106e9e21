"""How near keys lie to each other, and what of a residual they let through: from keys alone.

A later request j moves what the model produces at an earlier key k_i by r_j (D + a I)^-1 k_j^T C^-1 k_i. So what
tells of interference is the inner product that the solver itself uses, k_j^T C^-1 k_i, and its cosine; the plain cosine
of the keys is that of C = I.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from seqedit.facts.requests import Request
from seqedit.forward.protocols import CausalLM, Tokenizer
from seqedit.keys.walk import KeyWalk
from seqedit.models.anatomy import Anatomy, Projection
from seqedit.support.progress import progress_bar
from seqedit.text.lookup import tokenize_request

Metric = Literal["solver", "raw"]
METRICS: tuple[Metric, ...] = ("solver", "raw")
_AT_ONCE = 64
"""Requests that are measured together, so that progress is seen."""


@dataclass(frozen=True, eq=False)
class LayerKeys:
    """Keys of some requests at one layer.

    Attributes:
        projection: The layer's FFN output projection.
        keys: (n, d_in) float64, averaged over the context templates.
        following: Of each request the (t, d_in) keys of the bare prompt's tokens after the subject; None where the
            method does not ask for them.
    """

    projection: Projection
    keys: Tensor
    following: tuple[Tensor, ...] | None


def measure(
    model: CausalLM,
    parts: Anatomy,
    tokenizer: Tokenizer,
    requests: Sequence[Request],
    contexts: Sequence[Sequence[str]],
    layers: Sequence[int],
    *,
    following: bool = False,
) -> list[LayerKeys]:
    """Keys at every layer to be edited, on the model as it is.

    An edit measures a layer after it wrote the layers below, so its keys above the lowest one differ a little from
    these.

    Args:
        model: The causal LM.
        parts: Its anatomy.
        tokenizer: Its fast tokenizer.
        requests: n requests.
        contexts: Groups of context templates.
        layers: The layers.
        following: Measure the keys of the tokens after the subject too.
    """
    chosen = parts.check_layers(layers)
    found: dict[int, list[Tensor]] = {layer: [] for layer in chosen}
    after: dict[int, list[Tensor]] = {layer: [] for layer in chosen}
    with progress_bar("keys", len(requests)) as bar:
        for start in range(0, len(requests), _AT_ONCE):
            some = requests[start : start + _AT_ONCE]
            walk = KeyWalk(
                model, parts, tokenizer, some, contexts, parts.projections[chosen[-1]].module, following=following
            )
            prompts = [tokenize_request(tokenizer, request) for request in some]
            lengths = [len(prompt.ids) - prompt.lookup - 1 for prompt in prompts]
            for layer in chosen:
                measured = walk.at(layer)
                found[layer].append(measured.keys)
                if measured.following is not None:
                    after[layer] += measured.following.split(lengths)
            bar.advance(len(some))
    return [
        LayerKeys(parts.projections[layer], torch.cat(found[layer]), tuple(after[layer]) if following else None)
        for layer in chosen
    ]


def cosines(first: Tensor, second: Tensor, precondition: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Cosines of keys, k^T C^-1 k' / sqrt(k^T C^-1 k  k'^T C^-1 k').

    Args:
        first: (n, d_in) float64.
        second: (m, d_in) float64.
        precondition: Takes (d_in, n) keys to C^-1 K; None for C = I.

    Returns:
        (n, m) float64; 0 where a key has no length in the metric.
    """
    left = first if precondition is None else precondition(first.T).T
    right = second if precondition is None else precondition(second.T).T
    tiny = torch.finfo(torch.float64).tiny
    squares = [(k * p).sum(1) for k, p in ((first, left), (second, right))]
    norms = [one.clamp_min(tiny).sqrt() for one in squares]
    found = ((left @ second.T) / norms[0].unsqueeze(1) / norms[1]).clamp(-1, 1)
    return torch.where((squares[0] > 0).unsqueeze(1) & (squares[1] > 0), found, 0.0)


def written_shares(keys: Tensor, precondition: Callable[[Tensor], Tensor], a: float) -> tuple[Tensor, Tensor]:
    """What of each request's residual a batch will write at its key.

    With M = (D + a I)^-1 D, D = K^T C^-1 K, request i gets M_ii of its own residual and M_ji of request j's. How
    residuals lie to each other is not known before target values are, so only the first part is given.

    Args:
        keys: (n, d_in) float64.
        precondition: Takes (d_in, n) keys to C^-1 K.
        a: Relaxation of the equality constraint.

    Returns:
        (n,) M_ii, and (n,) the share q / (q + a) of each alone, q = k^T C^-1 k.
    """
    D = keys @ precondition(keys.T)
    D = (D + D.T) / 2
    q = D.diagonal()
    alone = q / (q + a).clamp_min(torch.finfo(D.dtype).tiny)
    # By eigenvectors: a = 0 and dependent keys make D + a I singular, and a plan is to show that, not to fail.
    values, vectors = torch.linalg.eigh(D)
    values = values.clamp_min(0)
    kept = torch.where(values > values[-1] * 1e-12, values / (values + a), torch.zeros_like(values))
    return (vectors * vectors * kept).sum(1), alone


def largest_over_layers(of: Mapping[str, Tensor]) -> Tensor:
    """The largest of every layer's cosines, elementwise: a fact is in danger where its nearest layer is."""
    return torch.stack([matrix.cpu() for matrix in of.values()]).amax(0)
