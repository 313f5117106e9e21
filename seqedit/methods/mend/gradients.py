"""The gradient of a batch's loss as the rank-one terms it is a sum of, without any weight's gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from seqedit.forward.batching import token_budget_batches
from seqedit.forward.hooks import by_token, hooks, inference_state
from seqedit.forward.protocols import CausalLM
from seqedit.methods.training import target_losses
from seqedit.models.anatomy import Anatomy
from seqedit.text.lookup import Prompt


@dataclass(frozen=True, eq=False)
class TokenTerms:
    """The terms delta_t u_t^T of one projection's gradient, request after request.

    Attributes:
        u: (T, d_in) inputs of the projection, float32 or wider.
        delta: (T, d_out) gradients of the loss at its output.
        owners: (T,) which request each token belongs to, ascending.
        positions: (T,) where in its request's prompt and target each token is.
    """

    u: Tensor
    delta: Tensor
    owners: Tensor
    positions: Tensor


def token_terms(
    model: CausalLM, parts: Anatomy, prompts: Sequence[Prompt], layers: Sequence[int], *, max_tokens: int = 8192
) -> tuple[dict[int, TokenTerms], Tensor]:
    """Inputs and output gradients of some projections, for the sum over requests of the targets' mean NLL.

    A sum and not a mean, so that a request's terms do not depend on the batch it is in. One backward pass to the
    projections' outputs gives them all; no weight asks for a gradient, so none is computed. Tokens that the loss does
    not depend on (delta = 0: padding, and in the last layer all but the positions that are scored) have no terms.

    Args:
        model: The causal LM.
        parts: Its anatomy.
        prompts: n prompts with their targets.
        layers: Layers whose FFN output projections are asked for.
        max_tokens: Padded tokens of one pass.

    Returns:
        Layer -> its terms, detached; and (n,) the losses.
    """
    layers = parts.check_layers(layers)
    modules = {parts.projections[layer].module: layer for layer in layers}
    seen: dict[int, tuple[Tensor, Tensor]] = {}
    found: dict[int, list[TokenTerms]] = {layer: [] for layer in layers}
    losses = torch.zeros(len(prompts))

    def capture(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        if not output.requires_grad:  # the lowest one: the graph begins here
            output = output.detach().requires_grad_(True)
        seen[modules[module]] = args[0].detach(), output
        return output

    with torch.enable_grad(), inference_state(model), hooks(post=dict.fromkeys(modules, capture)):
        for batch in token_budget_batches([len(p.ids) for p in prompts], max_tokens):
            chosen = [prompts[i] for i in batch]
            batch_losses = target_losses(model, chosen)
            deltas = torch.autograd.grad(batch_losses.sum(), [seen[layer][1] for layer in layers])
            losses[batch] = batch_losses.detach().to(losses)
            # Right-padded, so a prompt's tokens are the first of its row.
            width = max(len(p.ids) for p in chosen)
            real = torch.arange(width) < torch.tensor([len(p.ids) for p in chosen]).unsqueeze(1)
            for layer, delta in zip(layers, deltas, strict=True):
                u = by_token(seen[layer][0], real)
                delta = by_token(delta, real)
                kept = real.to(delta.device) & (delta != 0).any(-1)
                wide = torch.promote_types(delta.dtype, torch.float32)
                owners = torch.tensor(batch, device=delta.device).unsqueeze(1).expand(kept.shape)[kept]
                positions = torch.arange(width, device=delta.device).expand(kept.shape)[kept]
                found[layer].append(TokenTerms(u[kept].to(wide), delta[kept].to(wide), owners, positions))
            seen.clear()
    return {layer: _in_order(terms) for layer, terms in found.items()}, losses


def _in_order(parts: Sequence[TokenTerms]) -> TokenTerms:
    owners = torch.cat([p.owners for p in parts])
    order = torch.argsort(owners, stable=True)
    return TokenTerms(
        torch.cat([p.u for p in parts])[order],
        torch.cat([p.delta for p in parts])[order],
        owners[order],
        torch.cat([p.positions for p in parts])[order],
    )
