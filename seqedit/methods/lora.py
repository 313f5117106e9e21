"""LoRA (Hu et al. 2022, arXiv 2106.09685), trained by stock PEFT on the batch: what users pick instead of editing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from seqedit.errors import InputError
from seqedit.facts.requests import Request
from seqedit.methods.config import EditConfig
from seqedit.methods.registry import register
from seqedit.support.config import check_positive, setting

if TYPE_CHECKING:
    from torch import Tensor

    from seqedit.forward.protocols import CausalLM
    from seqedit.methods.interface import Update, Workbench
    from seqedit.models.anatomy import Projection

_ADAPTER = "seqedit"


@dataclass(frozen=True, kw_only=True)
class LoraEditConfig(EditConfig):
    """Settings of LoRA training, on the FFN output projections of the layers."""

    rank: int = setting(8, "rank of each layer's update (r)")
    alpha: float = setting(16.0, "scale of the update is alpha / rank (lora_alpha)")
    learning_rate: float = setting(5e-3, "AdamW's learning rate (lr)")
    steps: int = setting(60, "passes over the batch (num_steps)")
    weight_decay: float = setting(0.0, "AdamW's weight decay")
    batch_size: int = setting(64, "requests per update")
    stop_below: float = setting(0.01, "training ends when the mean loss is below this")

    def __post_init__(self) -> None:
        check_positive(self, "rank", "alpha", "learning_rate", "steps", "batch_size")
        check_positive(self, "weight_decay", "stop_below", zero=True)


@register("lora", LoraEditConfig, None)
def lora(bench: Workbench, requests: Sequence[Request], config: LoraEditConfig) -> Update:
    """LoRA of the FFN output projections, trained by PEFT on the batch."""
    import torch

    from seqedit.forward.hooks import inference_state
    from seqedit.methods.interface import add_to_weight
    from seqedit.methods.training import target_prompts, train, trained_update

    layers = bench.parts.check_layers(config.layers)
    projections = bench.parts.projections_of(layers)
    prompts = target_prompts(bench.tokenizer, requests)
    with inference_state(bench.model), _injected(bench.model, projections, config, bench.seed) as modules:
        factors = [[m.lora_B[_ADAPTER].weight, m.lora_A[_ADAPTER].weight] for m in modules]
        parameters = [p for pair in factors for p in pair]
        for parameter in parameters:
            parameter.requires_grad_(True)
        optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)

        def step(loss: Tensor) -> None:
            for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                parameter.grad = gradient
            optimizer.step()

        losses, updates = train(
            bench.model, prompts, step, steps=config.steps, batch_size=config.batch_size,
            stop_below=config.stop_below, label="LoRA",
        )  # fmt: skip
        scale = config.alpha / config.rank
        deltas = [(scale * B.detach().double(), A.detach().double()) for B, A in factors]
    for projection, (B, A) in zip(projections, deltas, strict=True):
        add_to_weight(projection, projection.matrix().clone(), B @ A)
    return trained_update(bench, requests, layers, deltas, losses, updates)


@contextmanager
def _injected(
    model: CausalLM, projections: Sequence[Projection], config: LoraEditConfig, seed: int
) -> Iterator[list[Any]]:
    """PEFT's LoRA layers around the projections; afterwards the model is built as before."""
    from peft import LoraConfig, inject_adapter_in_model

    from seqedit.support.random_state import seeded

    if hasattr(model, "peft_config"):
        raise InputError("the model holds PEFT adapters already; merge_and_unload() them before a 'lora' edit")
    names = [p.name for p in projections]
    settings = LoraConfig(
        r=config.rank, lora_alpha=config.alpha, target_modules=names, fan_in_fan_out=projections[0].transposed,
        task_type="CAUSAL_LM",
    )  # type: ignore[arg-type]  # fmt: skip
    with seeded(seed, {p.weight.device for p in projections}):
        inject_adapter_in_model(settings, model, adapter_name=_ADAPTER)
    try:
        yield [model.get_submodule(name) for name in names]
    finally:
        for projection in projections:
            parent, _, child = projection.name.rpartition(".")
            setattr(model.get_submodule(parent), child, projection.module)
        if hasattr(model, "peft_config"):
            del model.peft_config
