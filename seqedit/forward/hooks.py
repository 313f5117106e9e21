"""Looking into a forward pass, and running only a part of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from torch import Tensor, nn

from seqedit.forward.protocols import CausalLM


@contextmanager
def inference_state(model: CausalLM | nn.Module) -> Iterator[None]:
    """Evaluation mode without parameter gradients; both are put back afterwards.

    With no parameter asking for gradients, a backward pass to an injected perturbation computes and stores
    nothing for the weights.
    """
    training = {name: module.training for name, module in model.named_modules()}
    wanted = {name: p.requires_grad for name, p in model.named_parameters()}
    model.eval()
    model.requires_grad_(False)
    try:
        yield
    finally:
        for name, module in model.named_modules():
            module.training = training.get(name, module.training)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(wanted.get(name, parameter.requires_grad))


def hidden_of(output: Any) -> Tensor:
    """The hidden state in what a decoder layer returns (a tensor, or a tuple that starts with it)."""
    return output[0] if isinstance(output, tuple) else output


def by_token(states: Tensor, input_ids: Tensor) -> Tensor:
    """States as (rows, t, features); some families (OPT) run their FFN on all tokens in one row."""
    return states.reshape(*input_ids.shape, states.shape[-1])


class StopForward(Exception):
    """Ends a forward pass after the last module that somebody wanted to see."""


@contextmanager
def hooks(
    pre: Mapping[nn.Module, Callable[[nn.Module, tuple[Any, ...]], Any]] | None = None,
    post: Mapping[nn.Module, Callable[[nn.Module, tuple[Any, ...], Any], Any]] | None = None,
) -> Iterator[None]:
    """Forward (pre-)hooks for the duration of a block."""
    handles = [m.register_forward_pre_hook(f) for m, f in (pre or {}).items()]
    handles += [m.register_forward_hook(f) for m, f in (post or {}).items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def run_until(model: CausalLM, last: nn.Module, input_ids: Tensor, attention_mask: Tensor, **more: Any) -> None:
    """Forward pass that ends right after module ``last`` has run and its other hooks have seen it.

    Args:
        model: The causal LM.
        last: A module inside it.
        input_ids: (rows, t).
        attention_mask: (rows, t).
        **more: Further arguments of the model's forward; no cache is kept unless they say so.
    """

    def stop(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        raise StopForward

    handle = last.register_forward_hook(stop)
    try:
        with suppress(StopForward):
            model(**{"input_ids": input_ids, "attention_mask": attention_mask, "use_cache": False, **more})
    finally:
        handle.remove()
