"""Causal tracing of one prompt: the hidden states that, put back, bring the answer back (ROME, arXiv 2202.05262).

Three runs (section 2.1). *Clean*: the prompt as it is. *Corrupted*: Gaussian noise on the embeddings of the subject's
tokens, in several samples. *Restored*: a corrupted run in which some states are put back to their clean values. What is
measured is the probability of one token, the answer, after the prompt.

A restoration changes nothing below the lowest layer it touches. So it starts from the corrupted states there, and only
the layers above are run. All rows are the same prompt, so nothing is ever padded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from seqedit.errors import ModelError
from seqedit.forward.access import input_device
from seqedit.forward.finite import check_logits
from seqedit.forward.hooks import by_token, hidden_of, hooks, inference_state
from seqedit.forward.protocols import CausalLM
from seqedit.keys.measure import MAX_TOKENS
from seqedit.locating.noise import noise_added
from seqedit.locating.prompts import TracePrompt
from seqedit.models.anatomy import Anatomy
from seqedit.models.partial_run import Cut, logits_above
from seqedit.models.projection import Projection

KINDS = ("layer", "ffn", "attention")
"""What is restored: outputs of layers, of FFN output projections, of attention output projections."""


@dataclass(frozen=True, eq=False)
class CleanRun:
    """A prompt as it is.

    Attributes:
        prompt: The prompt, of t tokens.
        outputs: Kind -> for each layer its (t, d) output, on the layer's device.
        probabilities: (vocabulary,) float32, of the token after the prompt.
    """

    prompt: TracePrompt
    outputs: dict[str, list[Tensor]]
    probabilities: Tensor


@dataclass(frozen=True, eq=False)
class CorruptedRun:
    """The prompt with noise on its subject.

    Attributes:
        clean: The clean run.
        noise: (samples, subject tokens, embedding width) added to the subject's embeddings.
        hidden: For each layer its (samples, t, d) output.
        rests: For each layer what it returned besides the hidden state (see `Cut`).
        probabilities: (samples, vocabulary) float32.
    """

    clean: CleanRun
    noise: Tensor
    hidden: list[Tensor]
    rests: list[tuple[Any, ...] | None]
    probabilities: Tensor


class Tracer:
    """Runs prompts through a model: clean, corrupted, restored.

    Args:
        model: The causal LM.
        parts: Its anatomy.
        max_tokens: Tokens of one forward pass.

    Raises:
        ModelError: upper layers cannot be run alone; a layer has no feed-forward block, or no attention output
            projection that can be found.
    """

    def __init__(self, model: CausalLM, parts: Anatomy, *, max_tokens: int = MAX_TOKENS) -> None:
        if not parts.replays:
            raise ModelError(
                f"{type(model).__name__} cannot be traced: its upper layers read more of the lower ones than the "
                "hidden state, so they cannot be run from a restored one"
            )
        self.model, self.parts, self.max_tokens = model, parts, max_tokens
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model

        def whole(projection: Projection) -> nn.Module:
            # Of a projection that carries a LoRA the output is the wrapper's, which has the projection's name.
            return inner.get_submodule(projection.name)  # type: ignore[no-any-return]

        self.modules: dict[str, list[nn.Module]] = {
            "layer": list(parts.layers),
            "ffn": [whole(parts.projections[layer]) for layer in range(len(parts.layers))],
            "attention": [whole(parts.attention_output(layer)) for layer in range(len(parts.layers))],
        }

    def clean(self, prompt: TracePrompt) -> CleanRun:
        """Run a prompt as it is and keep every output that may have to be put back."""
        cut = self._from_embeddings(prompt, 1)
        seen: dict[nn.Module, Tensor] = {}

        def capture(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            # A copy, because some layers (Falcon's) go on to add to this very tensor.
            seen[module] = by_token(hidden_of(output).detach(), cut.input_ids)[0].clone()

        post = {module: capture for kind in KINDS for module in self.modules[kind]}
        with torch.no_grad(), inference_state(self.model), hooks(post=post):
            probabilities = self._probabilities(cut)
        return CleanRun(prompt, {kind: [seen[m] for m in self.modules[kind]] for kind in KINDS}, probabilities[0])

    def corrupted(self, clean: CleanRun, noise: Tensor) -> CorruptedRun:
        """Run a prompt with (samples, subject tokens, embedding width) noise on its subject's embeddings."""
        prompt, count = clean.prompt, len(self.parts.layers)
        hidden: list[list[Tensor]] = [[] for _ in range(count)]
        rests: list[tuple[Any, ...] | None] = [None] * count

        def capture(layer: int) -> Any:
            def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
                hidden[layer].append(hidden_of(output).detach().clone())
                rests[layer] = tuple(output[1:]) if isinstance(output, tuple) else None

            return hook

        found = []
        post = {module: capture(layer) for layer, module in enumerate(self.parts.layers)}
        with torch.no_grad(), inference_state(self.model), hooks(post=post):
            for part in noise.split(self._rows_per_pass(prompt)):
                with noise_added(self.model, prompt, part):
                    found.append(self._probabilities(self._from_embeddings(prompt, len(part))))
        return CorruptedRun(clean, noise, [torch.cat(h) for h in hidden], rests, torch.cat(found))

    def restored(
        self, run: CorruptedRun, kind: str, layers: Sequence[int], positions: Sequence[Sequence[int]], answer: int
    ) -> Tensor:
        """Probability of the answer with some states of the corrupted run put back to their clean values.

        Args:
            run: The corrupted run.
            kind: One of `KINDS`.
            layers: Layers that are restored together, in increasing order.
            positions: m restorations, each the token positions that are restored together.
            answer: Token id.

        Returns:
            (m, samples) float64 on the CPU.
        """
        clean, prompt = run.clean, run.clean.prompt
        # A layer's output is put back in the state that the run starts from; everything else by a hook on the way.
        below = layers[0] if kind == "layer" else layers[0] - 1
        hooked = layers[1:] if kind == "layer" else layers
        put_back = torch.zeros(len(positions), len(prompt.ids), dtype=torch.bool)
        for number, together in enumerate(positions):
            put_back[number, list(together)] = True
        jobs = torch.cartesian_prod(torch.arange(len(positions)), torch.arange(len(run.noise)))
        found = []
        with torch.no_grad(), inference_state(self.model):
            for part in jobs.split(self._rows_per_pass(prompt)):
                mask, sample = put_back[part[:, 0]], part[:, 1]
                cut = self._from_embeddings(prompt, len(part))
                if below >= 0:
                    hidden = run.hidden[below][sample.to(run.hidden[below].device)]
                    if kind == "layer":
                        hidden = _restored(hidden, clean.outputs[kind][below], mask)
                    cut = Cut(cut.input_ids, cut.attention_mask, below, hidden, run.rests[below])
                post = {
                    self.modules[kind][layer]: _put_back(clean.outputs[kind][layer], mask, cut.input_ids)
                    for layer in hooked
                }
                with noise_added(self.model, prompt, run.noise[sample]), hooks(post=post):
                    found.append(self._probabilities(cut)[:, answer].double().cpu())
        return torch.cat(found).view(len(positions), len(run.noise))

    def _rows_per_pass(self, prompt: TracePrompt) -> int:
        return max(1, self.max_tokens // len(prompt.ids))

    def _from_embeddings(self, prompt: TracePrompt, rows: int) -> Cut:
        """A cut below the first layer: replaying it runs the whole model."""
        ids = torch.tensor([prompt.ids], device=input_device(self.model)).repeat(rows, 1)
        return Cut(ids, torch.ones_like(ids), -1, torch.zeros(rows, 0, 0), None)

    def _probabilities(self, cut: Cut) -> Tensor:
        """(rows, vocabulary) float32 of the token after the prompt."""
        rows, length = cut.input_ids.shape
        every = torch.arange(rows, device=cut.input_ids.device)
        last = torch.full_like(every, length - 1)
        logits = logits_above(self.model, self.parts, cut, cut.hidden, every, last).float()
        check_logits(logits)
        return logits.softmax(-1)


def window(centre: int, width: int, layers: int) -> range:
    """The layers restored together around a centre, cut off at the model's ends; as ROME's public code places them."""
    return range(max(0, centre - width // 2), min(layers, centre + (width + 1) // 2))


def _restored(states: Tensor, clean: Tensor, mask: Tensor) -> Tensor:
    """(rows, t, d) states, with the (t, d) clean ones where the (rows, t) mask says so."""
    return torch.where(mask.to(states.device).unsqueeze(-1), clean.to(states), states)


def _put_back(clean: Tensor, mask: Tensor, ids: Tensor) -> Any:
    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        states = hidden_of(output)
        changed = _restored(by_token(states, ids), clean, mask).view_as(states)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    return hook
