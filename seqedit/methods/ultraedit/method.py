"""UltraEdit's settings and its closed form.

At the edited projections one backward pass of the batch gives rows h, inputs, and g, gradients of the loss at the
outputs. Both are normalised by the statistics of all batches in force, this one included. Each row asks for a step

    v = - learning_rate |h~|^2 g~,

which is what gradient descent with the normalised row would change at h~, and all steps are met by least squares at the
inputs as they are:

    Delta^T = (H^T H + l2 I)^-1 H^T V = H^T (H H^T + l2 I)^-1 V        (rank <= rows)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from seqedit.errors import NumericsError
from seqedit.facts.requests import Request
from seqedit.methods.config import EditConfig
from seqedit.methods.registry import register
from seqedit.support.config import check_positive, setting

if TYPE_CHECKING:
    from torch import Tensor

    from seqedit.methods.interface import Update, Workbench
    from seqedit.methods.mend.gradients import TokenTerms
    from seqedit.text.lookup import Prompt

Tokens = Literal["answer", "all", "subject"]


@dataclass(frozen=True, kw_only=True)
class UltraEditConfig(EditConfig):
    """UltraEdit's settings."""

    lifelong: ClassVar[bool] = True

    learning_rate: float = setting(1e-6, "step against the normalised gradient (lr)")
    l2: float = setting(1.0, "weight of |Delta|^2 in the least squares")
    tokens: Tokens = setting(
        "answer", "rows: positions that predict the answer, all that the loss depends on, or the subject's last token"
    )

    def __post_init__(self) -> None:
        check_positive(self, "learning_rate", "l2")


@register("ultraedit", UltraEditConfig, None)
def ultraedit(bench: Workbench, requests: Sequence[Request], config: UltraEditConfig) -> Update:
    """The batch's gradient, normalised over all edits in force and met by least squares; nothing is trained."""
    from dataclasses import replace

    import torch

    from seqedit.methods.interface import add_to_weight
    from seqedit.methods.mend.gradients import token_terms
    from seqedit.methods.training import losses_of, target_prompts, trained_update
    from seqedit.methods.ultraedit.statistics import combined, normalised, statistics_of

    layers = bench.parts.check_layers(config.layers)
    projections = bench.parts.projections_of(layers)
    prompts = target_prompts(bench.tokenizer, requests)
    terms, _ = token_terms(bench.model, bench.parts, prompts, layers, max_tokens=bench.max_tokens)
    rows = [_rows(terms[layer], prompts, config.tokens) for layer in layers]
    own = [statistics_of(torch.cat(pair, dim=1)) for pair in rows]
    earlier = [bench.statistics(projection) for projection in projections]
    # As published, projections of one shape are normalised alike: layers whose gradients are small then move little.
    shapes = [(H.shape[1], G.shape[1]) for H, G in rows]
    pools: dict[tuple[int, int], Tensor] = {}
    for shape in dict.fromkeys(shapes):
        here = [i for i, one in enumerate(shapes) if one == shape]
        parts = [part.cpu() for i in here for part in (earlier[i], own[i]) if part is not None]
        pools[shape] = combined(parts)
        if not bool(pools[shape][0, 0] > 1):
            raise NumericsError("one row has no variance to normalise by; edit more facts, or layers, at once")
    deltas = []
    for projection, (H, G), shape in zip(projections, rows, shapes, strict=True):
        hidden, gradient = normalised(torch.cat([H, G], dim=1), pools[shape].to(H.device)).split(shape, dim=1)
        deltas.append(least_squares(H.double(), step(hidden, gradient, config.learning_rate), config.l2))
        add_to_weight(projection, projection.matrix().clone(), deltas[-1][0] @ deltas[-1][1])
    seen = {
        "rows": max(len(H) for H, _ in rows),
        "earlier_rows": max((int(part[0, 0]) for part in earlier if part is not None), default=0),
    }
    losses = losses_of(bench.model, prompts, max_tokens=bench.max_tokens)
    update = trained_update(bench, requests, layers, deltas, losses, 1, {"normalised_over": seen})
    named = zip(update.layers, own, strict=True)
    return replace(update, layers=tuple(replace(layer, statistics=part) for layer, part in named))


def step(hidden: Tensor, gradient: Tensor, learning_rate: float) -> Tensor:
    """(T, d_out) V = - learning_rate |h~|^2 g~ of normalised rows."""
    return -learning_rate * hidden.square().sum(dim=1, keepdim=True) * gradient


def least_squares(H: Tensor, V: Tensor, l2: float) -> tuple[Tensor, Tensor]:
    """Factors of Delta = V^T (H H^T + l2 I)^-1 H, for (T, d_in) inputs and (T, d_out) steps.

    Where there are more rows than dimensions, those of the same solution over the dimensions: V^T H (H^T H + l2 I)^-1.
    """
    import torch

    few = len(H) <= H.shape[1]
    gram = H @ H.T if few else H.T @ H
    gram.diagonal().add_(l2)
    factor = torch.linalg.cholesky(gram)
    if few:
        return torch.cholesky_solve(V, factor).T, H
    return V.T @ H, torch.cholesky_inverse(factor)


def _rows(terms: TokenTerms, prompts: Sequence[Prompt], tokens: Tokens) -> tuple[Tensor, Tensor]:
    """(T, d_in) inputs and (T, d_out) gradients of the chosen tokens, of the answers' NLL summed over their tokens.

    A sum, as each token of an answer counts alike in the public code, whatever the length of the answer.
    """
    import torch

    owners = terms.owners.tolist()
    weights = torch.tensor([float(len(p.target_ids)) for p in prompts], device=terms.delta.device)
    gradients = terms.delta.double() * weights[terms.owners].unsqueeze(1)
    if tokens == "all":
        return terms.u, gradients
    kept = [
        position == prompts[i].lookup if tokens == "subject"
        else 0 <= position - prompts[i].target_start < len(prompts[i].target_ids)
        for i, position in zip(owners, terms.positions.tolist(), strict=True)
    ]  # fmt: skip
    chosen = torch.tensor(kept, device=terms.u.device)
    if not any(kept):
        raise NumericsError("the loss depends on none of the chosen tokens there; edit a lower layer")
    return terms.u[chosen], gradients[chosen]
