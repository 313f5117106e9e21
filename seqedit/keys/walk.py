"""Keys and residuals of a batch, layer after layer, with nothing measured twice.

A batch writes its layers from the lowest to the highest and measures again before each. What was written to a layer
changes nothing below it, and nothing after a token reaches back to it. So prompts end at their lookup token; what they
begin with alike is run once; each pass goes on from the hidden states that the one before left below the layer
that was written; and one pass gives a layer's keys and, from the bare prompts, which alone go on to it, what the last
layer now produces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from seqedit.facts.requests import Request
from seqedit.forward.access import input_device
from seqedit.forward.batching import pass_tokens, token_budget_batches
from seqedit.forward.hooks import by_token, hidden_of, hooks, inference_state, run_until
from seqedit.forward.prefix_trees import PackedRow, forward_arguments, pack, pack_width
from seqedit.forward.protocols import CausalLM, Tokenizer
from seqedit.models.anatomy import Anatomy
from seqedit.models.partial_run import Cut, lower_layers_replaced
from seqedit.support.memory import free_bytes
from seqedit.text.lookup import Prompt, tokenize_request

_SHARE = 0.25
"""Of the free memory that hidden states may take from one layer to the next; with less they are computed again."""


@dataclass(frozen=True, eq=False)
class Measured:
    """What is measured before a layer is written.

    Attributes:
        keys: (n, d_in) float64 keys, averaged over the context templates.
        outputs: (n, d) float64 outputs of the bare prompts at the module whose target values are to be reached.
        following: (N, d_in) float64 keys of the bare prompts' tokens after the subject; None if not asked for.
    """

    keys: Tensor
    outputs: Tensor
    following: Tensor | None


@dataclass(eq=False)
class _Row:
    """Sequences of tokens run as one row, and what is read from it.

    Attributes:
        tree: The row.
        keys: (request, node, weight) of the keys that it gives.
        bare: (request, node, nodes after it) of the requests whose bare prompt it holds.
    """

    tree: PackedRow
    keys: list[tuple[int, int, float]] = field(default_factory=list)
    bare: list[tuple[int, int, list[int]]] = field(default_factory=list)


@dataclass(eq=False)
class _Part:
    """Rows that are run together: either all of bare prompts, or none.

    Attributes:
        rows: What they are.
        cut: What they are run on from.
    """

    rows: list[_Row]
    cut: Cut


class KeyWalk:
    """Measures a batch at one layer after the other, upwards; each may be written after it was measured.

    Args:
        model: The causal LM.
        parts: Its anatomy.
        tokenizer: Its fast tokenizer.
        requests: n requests.
        contexts: Groups of context templates; the mean is taken within each group and then over the groups
            (`seqedit.keys.measure.measure_keys`).
        module: The module whose outputs are to become the target values; no layer that is measured is above it.
        following: Measure the keys of the tokens after the subject too.
        max_tokens: Padded tokens of one forward pass.
    """

    def __init__(
        self,
        model: CausalLM,
        parts: Anatomy,
        tokenizer: Tokenizer,
        requests: Sequence[Request],
        contexts: Sequence[Sequence[str]],
        module: nn.Module,
        *,
        following: bool = False,
        max_tokens: int = 8192,
    ) -> None:
        self.model, self.parts, self.module = model, parts, module
        self.requests, self.following = len(requests), following
        own = [tokenize_request(tokenizer, request) for request in requests]
        # Whose each prompt is, and what its key weighs; a bare one that is no context has its output read alone.
        bare: list[tuple[int, Prompt, float]] = []
        others: list[tuple[int, Prompt, float]] = []
        for i, request in enumerate(requests):
            weight_of_bare = 0.0
            for group in contexts:
                for context in group:
                    prompt, weight = tokenize_request(tokenizer, request, context), 1.0 / (len(contexts) * len(group))
                    if prompt == own[i]:
                        weight_of_bare += weight
                    else:
                        others.append((i, prompt, weight))
            bare.append((i, own[i], weight_of_bare))
        self._parts = [*self._pack(bare, max_tokens, bare=True), *self._pack(others, max_tokens, bare=False)]
        self._last = -1

    def _pack(self, jobs: Sequence[tuple[int, Prompt, float]], max_tokens: int, *, bare: bool) -> list[_Part]:
        """Prompts, each up to its lookup token or whole where following tokens are wanted, as rows to be run."""
        if not jobs:
            return []
        device = input_device(self.model)
        whole = bare and self.following
        sequences = [p.ids if whole else p.ids[: p.lookup + 1] for _, p, _ in jobs]
        packed = pack(sequences, pack_width(self.model, sequences, trees=self.parts.takes_trees))
        rows = [_Row(tree) for tree in packed.rows]
        for (i, prompt, weight), number, nodes in zip(jobs, packed.row_of, packed.nodes, strict=True):
            rows[number].keys.append((i, nodes[prompt.lookup], weight))
            if bare:
                rows[number].bare.append((i, nodes[prompt.lookup], list(nodes[prompt.lookup + 1 :])))
        dtype = self.model.get_input_embeddings().weight.dtype
        parts = []
        for batch in token_budget_batches([len(row.tree.ids) for row in rows], pass_tokens(device, max_tokens)):
            arguments = forward_arguments([rows[i].tree for i in batch], device, dtype)
            ids, mask, positions = (arguments.get(k) for k in ("input_ids", "attention_mask", "position_ids"))
            assert ids is not None
            assert mask is not None
            cut = Cut(ids, mask, -1, torch.zeros(len(batch), 0, 0), None, None, positions)
            parts.append(_Part([rows[i] for i in batch], cut))
        return parts

    def at(self, layer: int, module: nn.Module | None = None) -> Measured:
        """Measure before a layer is written; layers come in increasing order.

        Args:
            layer: The layer; those measured before may have been written meanwhile, no others.
            module: Whose outputs to measure, where it is another than the walk's: not below the layer's projection.

        Raises:
            ValueError: the layer is not above the one measured last.
        """
        if layer <= self._last:
            raise ValueError(f"layer {layer} is not above layer {self._last}, which was measured before")
        self._last = layer
        projection = self.parts.projections[layer]
        device = projection.weight.device
        d_in = projection.matrix().shape[1]
        keys = torch.zeros(self.requests, d_in, dtype=torch.float64, device=device)
        outputs: list[Tensor] = [torch.empty(0)] * self.requests
        following: list[Tensor] = [torch.empty(0, d_in, dtype=torch.float64, device=device)] * self.requests
        keep = self._may_keep(device)
        with torch.no_grad(), inference_state(self.model):
            for part in self._parts:
                inputs, reached = self._run(part, layer, module or self.module, keep)
                _add_keys(keys, part.rows, inputs)
                for number, row in enumerate(part.rows):
                    for i, node, after in row.bare:
                        assert reached is not None
                        outputs[i] = reached[number, node].double()
                        following[i] = inputs[number, after].double()
        return Measured(keys, torch.stack(outputs), torch.cat(following) if self.following else None)

    def _run(self, part: _Part, layer: int, goal: nn.Module, keep: bool) -> tuple[Tensor, Tensor | None]:
        """(rows, t, d_in) inputs of the layer's projection; (rows, t, d) outputs of the module, for bare prompts."""
        start = part.cut
        module = self.parts.projections[layer].module
        last = goal if part.rows[0].bare else module  # only bare prompts go on to the target values
        seen: dict[str, Any] = {}

        def capture_keys(module: nn.Module, args: tuple[Any, ...]) -> None:
            seen["keys"] = args[0].detach()

        def capture_below(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            seen["below"] = output

        def capture_outputs(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            seen["outputs"] = hidden_of(output).detach()

        post: dict[nn.Module, Any] = {last: capture_outputs}
        if keep and layer - 1 > start.layer:
            post[self.parts.layers[layer - 1]] = capture_below
        with lower_layers_replaced(self.parts, start), hooks(pre={module: capture_keys}, post=post):
            run_until(self.model, last, **start.arguments())
        if "below" in seen:
            output = seen["below"]
            rest = tuple(output[1:]) if isinstance(output, tuple) else None
            part.cut = replace(start, layer=layer - 1, hidden=hidden_of(output).detach(), rest=rest)
        outputs = by_token(seen["outputs"], start.input_ids) if last is goal else None
        return by_token(seen["keys"], start.input_ids), outputs

    def _may_keep(self, device: torch.device) -> bool:
        if not self.parts.replays:
            return False
        tokens = sum(part.cut.input_ids.numel() for part in self._parts)
        free = free_bytes(device)
        size = next(iter(self.parts.projections)).weight.element_size()
        return free is None or tokens * self.parts.hidden_size * size <= _SHARE * free


def _add_keys(total: Tensor, rows: Sequence[_Row], inputs: Tensor) -> None:
    """Add weighted keys to (n, d_in) sums."""
    uses = [(i, number, column, weight) for number, row in enumerate(rows) for i, column, weight in row.keys]
    if not uses:
        return
    request, row, column, weight = zip(*uses, strict=True)
    device = total.device
    found = inputs[torch.tensor(row, device=inputs.device), torch.tensor(column, device=inputs.device)]
    weights = torch.tensor(weight, dtype=torch.float64, device=device).unsqueeze(1)
    total.index_add_(0, torch.tensor(request, device=device), found.to(device).double() * weights)
