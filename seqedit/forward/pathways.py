"""Where in a decoder layer a linear module acts, found by trying on a few tokens.

Names and shapes do not tell a feed-forward output projection from what is built alike: the projection of a per-layer
embedding (Gemma 4), the output of a convolution (LFM2) or a state space, an attention's output, a low-rank map beside
the block. Two small forward passes do. The first sees what runs, in which order and on how many tokens. The second
runs one text in several rows and changes, within each layer, what feeds a module in one row and what comes out of it in
another; every layer hands on the unchanged row alone, so that all layers are tried at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from seqedit.forward.access import input_device
from seqedit.forward.configuration import ordinary_tokens
from seqedit.forward.hooks import hooks, inference_state, run_until
from seqedit.forward.protocols import CausalLM

TOKENS = 5
"""Tokens of the text: one to be overwritten, one to compare with, and three that take what that one reads, its negative
and nothing."""
_SAME = {torch.float64: 1e-6, torch.float32: 1e-4}
"""Relative deviation that rounding explains; `_HALF` in half precision."""
_HALF = 2e-2
_LINEAR = 1e-2
"""Relative deviation from a linear map below which there is no activation worth the name."""


@dataclass(eq=False)
class Calls:
    """When a module ran in one forward pass, and on how many tokens.

    Attributes:
        at: Place of each call among all.
        tokens: How many tokens each read.
    """

    at: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Candidate:
    """A linear module that may be a layer's feed-forward output projection.

    Attributes:
        name: Its name within the layer.
        module: What is called by that name (the wrapper, where it carries a LoRA).
        readers: The linear modules that ran before it in its block: what feeds it, if it is one.
    """

    name: str
    module: nn.Module
    readers: tuple[nn.Module, ...]


@dataclass(eq=False)
class Verdict:
    """What was seen of a candidate; each is False until it was seen.

    Attributes:
        by_token: Its input is made of what its readers read at that token, and of nothing else.
        activated: Its input is no linear map of that.
        writes: A change of its output comes out of the layer without going through another linear module.
        in_place: That change stays at its token.
        one_stream: Its layer hands on one hidden state for each token.
    """

    by_token: bool = False
    activated: bool = False
    writes: bool = False
    in_place: bool = False
    one_stream: bool = False

    @property
    def proven(self) -> bool:
        """Whether it is a feed-forward output projection."""
        return self.by_token and self.activated and self.writes and self.in_place


def trace(model: CausalLM, modules: Iterable[nn.Module]) -> dict[nn.Module, Calls]:
    """Run a few tokens and see which modules run, when, and on how many tokens."""
    calls: dict[nn.Module, Calls] = {}
    count = 0

    def note(module: nn.Module, args: tuple[Any, ...]) -> None:
        nonlocal count
        seen = calls.setdefault(module, Calls())
        states = args[0] if args and isinstance(args[0], Tensor) and args[0].ndim else None
        seen.at.append(count)
        seen.tokens.append(TOKENS if states is None else states.numel() // max(1, states.shape[-1]))
        count += 1

    ids = _text(model, 1)
    with torch.no_grad(), inference_state(model), hooks(pre=dict.fromkeys(modules, note)):
        model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    return calls


def state_of(output: Any) -> Tensor | None:
    """The hidden state in what a layer returns, None where there is none."""
    found = output[0] if isinstance(output, tuple | list) and output else output
    return found if isinstance(found, Tensor) else None


def prove(
    model: CausalLM,
    layers: Sequence[nn.Module],
    candidates: Sequence[Sequence[Candidate]],
    others: Sequence[Sequence[nn.Module]],
) -> list[list[Verdict]]:
    """See where each layer's candidates act.

    Args:
        model: The causal LM, with its weights.
        layers: Its decoder layers, each run once in a forward pass.
        candidates: For each layer its candidates, each run once on all tokens.
        others: For each layer all of its linear modules.

    Returns:
        For each layer the verdicts on its candidates. A layer that does not return one (rows, tokens, features) hidden
        state has nothing proven.
    """
    rows = 3 + max(map(len, candidates), default=0)
    verdicts = [[Verdict() for _ in some] for some in candidates]
    handles: list[Any] = []
    for layer, some, found, linears in zip(layers, candidates, verdicts, others, strict=True):
        if not some:
            continue
        trial = _Trial(rows, len(some), found)
        # In the order of registration: what a module reads is looked at before it is overwritten.
        for number, candidate in enumerate(some):
            handles.append(candidate.module.register_forward_pre_hook(trial.looks_at_input(number)))
        for reader in {m: None for c in some for m in c.readers}:
            handles.append(reader.register_forward_pre_hook(trial.feeds))
        own = {candidate.module: number for number, candidate in enumerate(some)}
        for module in linears:
            handles.append(module.register_forward_hook(trial.holds(own.get(module))))
        handles.append(layer.register_forward_hook(trial.looks_at_layer))
    _run(model, layers, handles, rows)
    return verdicts


class _Trial:
    """One layer's share of the second pass.

    Rows: 0 unchanged; 1 with tokens that read what token 1 reads, its negative, and zeros; 2 with another first token;
    from 3 on one for each candidate, whose output is changed at token 1.
    """

    def __init__(self, rows: int, count: int, verdicts: Sequence[Verdict]) -> None:
        self.rows, self.verdicts = rows, verdicts
        self.moved: list[Tensor | None] = [None] * count

    def _by_row(self, states: Any) -> Tensor | None:
        """(rows, tokens, features) view of states that hold every token once, in order."""
        if not isinstance(states, Tensor) or states.numel() != self.rows * TOKENS * states.shape[-1]:
            return None
        return states.reshape(self.rows, TOKENS, states.shape[-1])

    def looks_at_input(self, number: int) -> Callable[..., None]:
        def look(module: nn.Module, args: tuple[Any, ...]) -> None:
            states = self._by_row(args[0] if args else None)
            if states is None:
                return
            same = _SAME.get(states.dtype, _HALF)
            plain, fed, other = states[:3].double()
            verdict, here = self.verdicts[number], float(plain[1].norm())
            verdict.by_token = here > 0 and all(
                float((found - plain[1]).norm()) <= same * here for found in (fed[1], fed[2], other[1])
            )
            bend = float((fed[1] + fed[3] - 2 * fed[4]).norm())
            verdict.activated = bend > max(_LINEAR, same) * float(fed[1].norm() + fed[3].norm())

        return look

    def feeds(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        states = self._by_row(args[0] if args else None)
        if states is None:
            return None
        changed = states[:1].expand_as(states).clone()
        changed[1, 2], changed[1, 3], changed[1, 4] = states[0, 1], -states[0, 1], 0
        changed[2, 0] = -3 * states[0, 0] + states[0, 1]
        return (changed.view_as(args[0]), *args[1:])

    def holds(self, number: int | None) -> Callable[..., Any]:
        def hold(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            states = self._by_row(output)
            if states is None:
                return None
            held = states.clone()  # what was fed in rows 1 and 2 goes on to the candidate
            held[3:] = states[:1]
            if number is not None:
                ramp = torch.linspace(0.5, 1.5, states.shape[-1], device=states.device)
                size = states[0].abs().double().mean().clamp_min(1e-3)
                held[3 + number, 1] += (4 * size * ramp).to(states)
            return held.view_as(output)

        return hold

    def looks_at_layer(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        found = state_of(output)
        states = self._by_row(found)
        if found is None or states is None or found.shape[:2] != (self.rows, TOKENS):
            return None
        for number, verdict in enumerate(self.verdicts):
            verdict.one_stream = True
            moved = (states[3 + number].double() - states[0].double()).abs().amax(dim=-1)
            verdict.writes = float(moved[1]) > 0
            verdict.in_place = verdict.writes and float(moved.sum() - moved[1]) <= 1e-2 * float(moved[1])
        kept = states[:1].expand_as(states).clone().view_as(found)
        if isinstance(output, tuple | list):
            return type(output)((kept, *output[1:]))
        return kept


def _run(model: CausalLM, layers: Sequence[nn.Module], handles: Sequence[Any], rows: int) -> None:
    """Run the text in some rows up to the last layer, then take the hooks away."""
    try:
        ids = _text(model, rows)
        with torch.no_grad(), inference_state(model):
            run_until(model, layers[-1], ids, torch.ones_like(ids))
    finally:
        for handle in handles:
            handle.remove()


def _note(level: dict[int, Tensor], number: int) -> Callable[..., None]:
    """A hook that keeps the mean size of a layer's output at token 1."""

    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        states = state_of(output)
        assert states is not None
        level[number] = states.reshape(-1, states.shape[-1])[1].double().abs().mean()

    return hook


def _text(model: CausalLM, rows: int) -> Tensor:
    return torch.tensor([ordinary_tokens(model, TOKENS)], device=input_device(model)).repeat(rows, 1)


def adds_outputs(model: CausalLM, layers: Sequence[nn.Module], modules: Sequence[nn.Module | None]) -> list[bool]:
    """Whether what is added to a module's output comes out of its layer unchanged, for each layer.

    Most families add the FFN's output to the residual stream; some normalise it first (Gemma 2), scale it (Granite)
    or normalise the sum. Layers of one model need not be alike.

    Args:
        model: The causal LM.
        layers: Decoder layers.
        modules: For each a linear module inside it, with one output per feature of the residual stream; None for none.
    """
    answers = [False] * len(layers)
    level: dict[int, Tensor] = {}
    _run(model, layers, [layer.register_forward_hook(_note(level, i)) for i, layer in enumerate(layers)], 1)
    sizes = (1.0, 4.0)  # a norm may by chance return one of them as it came, never both

    def by_row(states: Tensor) -> Tensor:
        return states.reshape(3, TOKENS, states.shape[-1])

    def add(number: int) -> Callable[..., Any]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
            changed = by_row(output).clone()
            changed[1:] = changed[:1]
            # Of the size of what is there, so that rounding neither hides it nor drowns in it; a ramp, so that no
            # feature's share is another's.
            shape = torch.linspace(0.5, 1.5, output.shape[-1], dtype=torch.float64, device=output.device)
            scale[number] = shape * (level[number].to(output.device) or 1.0)
            for row, size in enumerate(sizes, start=1):
                changed[row, 1] += (size * scale[number]).to(output)
            return changed.view_as(output)

        return hook

    def compare(number: int) -> Callable[..., Any]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            found = state_of(output)
            assert found is not None
            states = by_row(found)
            expected = [size * scale[number].to(found.device) for size in sizes]
            answers[number] = all(
                _deviation(states[row, 1].double() - states[0, 1].double(), wanted) < TOLERANCE
                for row, wanted in enumerate(expected, start=1)
            )
            kept = states[:1].expand_as(states).clone().view_as(found)
            return type(output)((kept, *output[1:])) if isinstance(output, tuple | list) else kept

        return hook

    scale: dict[int, Tensor] = {}
    handles: list[Any] = []
    for number, (layer, inside) in enumerate(zip(layers, modules, strict=True)):
        if inside is not None:
            handles.append(inside.register_forward_hook(add(number)))
            handles.append(layer.register_forward_hook(compare(number)))
    _run(model, layers, handles, 3)
    return answers


TOLERANCE = 0.1
"""Relative deviation that rounding explains in float16 and bfloat16; a norm or a scale makes far larger ones."""


def _deviation(found: Tensor, expected: Tensor) -> float:
    """Median over the features, because a few outlying activations round coarsely."""
    return float(((found - expected).abs() / expected.abs()).median())
