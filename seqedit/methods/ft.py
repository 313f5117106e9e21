"""FT-W: constrained fine-tuning of the FFN output projections (arXiv 2012.00363; as in the tables of MEMIT)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from seqedit.facts.requests import Request
from seqedit.methods.config import EditConfig
from seqedit.methods.registry import register
from seqedit.support.config import check_positive, setting

if TYPE_CHECKING:
    from torch import Tensor

    from seqedit.methods.interface import Update, Workbench


@dataclass(frozen=True, kw_only=True)
class FtConfig(EditConfig):
    """Settings of constrained fine-tuning."""

    learning_rate: float = setting(5e-4, "Adam's learning rate (lr)")
    steps: int = setting(25, "passes over the batch (num_steps)")
    weight_decay: float = setting(0.0, "Adam's weight decay, towards zero weights as published")
    norm_constraint: float | None = setting(None, "bound on the change of every single weight; none for no bound")
    batch_size: int = setting(64, "requests per update")
    stop_below: float = setting(0.01, "training ends when the mean loss is below this")

    def __post_init__(self) -> None:
        check_positive(self, "learning_rate", "steps", "batch_size", "norm_constraint")
        check_positive(self, "weight_decay", "stop_below", zero=True)


@register("ft", FtConfig, None)
def ft(bench: Workbench, requests: Sequence[Request], config: FtConfig) -> Update:
    """Fine-tuning of the FFN output projections, with a norm constraint or weight decay (FT-W)."""
    import torch

    from seqedit.forward.hooks import inference_state
    from seqedit.methods.training import target_prompts, train, trained_update

    layers = bench.parts.check_layers(config.layers)
    projections = bench.parts.projections_of(layers)
    # Adam works on float32 masters: a step would be lost in the rounding of bfloat16 weights.
    originals = [p.weight.detach().float().clone() for p in projections]
    masters = [original.clone() for original in originals]
    optimizer = torch.optim.Adam(masters, lr=config.learning_rate, weight_decay=config.weight_decay)
    with inference_state(bench.model):
        for projection in projections:
            projection.weight.requires_grad_(True)

        def step(loss: Tensor) -> None:
            gradients = torch.autograd.grad(loss, [p.weight for p in projections])
            for master, gradient in zip(masters, gradients, strict=True):
                master.grad = gradient.float()
            optimizer.step()
            with torch.no_grad():
                for projection, master, original in zip(projections, masters, originals, strict=True):
                    if config.norm_constraint is not None:
                        bound = config.norm_constraint
                        master.copy_(original + (master - original).clamp(-bound, bound))
                    projection.weight.copy_(master)

        losses, updates = train(
            bench.model, target_prompts(bench.tokenizer, requests), step, steps=config.steps,
            batch_size=config.batch_size, stop_below=config.stop_below, label="fine-tuning",
        )  # fmt: skip
    deltas = []
    for projection, master, original in zip(projections, masters, originals, strict=True):
        delta = master.double() - original.double()
        deltas.append(delta.T.contiguous() if projection.transposed else delta)
    return trained_update(bench, requests, layers, deltas, losses, updates)
