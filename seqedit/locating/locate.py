"""Which layers carry facts: causal tracing over the facts that a model knows (ROME, arXiv 2202.05262, section 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from seqedit.errors import InputError
from seqedit.facts.requests import Request
from seqedit.forward.protocols import CausalLM, Tokenizer
from seqedit.keys.measure import MAX_TOKENS
from seqedit.locating.location import Location, TraceConfig, TracedFact
from seqedit.locating.noise import embedding_std, unit_noise
from seqedit.locating.prompts import tokenize_for_trace
from seqedit.locating.tracer import KINDS, CorruptedRun, Tracer, window
from seqedit.models.anatomy import anatomy
from seqedit.support.progress import progress_bar

WINDOW = 10
"""Layers of a window, as in ROME; models of fewer than 30 layers get a third of theirs."""


def default_window(layers: int) -> int:
    """A third of the layers, and at most ROME's 10."""
    return min(WINDOW, max(1, round(layers / 3)))


def locate(
    model: CausalLM,
    tokenizer: Tokenizer,
    requests: Sequence[Request],
    config: TraceConfig | None = None,
    *,
    max_tokens: int = MAX_TOKENS,
) -> Location:
    """Trace the facts that the model knows.

    A fact is known if the model's most likely token after the prompt is the first one of ``target_true``. Without a
    ``target_true`` the model's own answer is taken, whatever it is.

    Args:
        model: The causal LM.
        tokenizer: Its fast tokenizer.
        requests: The facts; ``target_new`` is not used.
        config: How to trace.
        max_tokens: Tokens of one forward pass.

    Raises:
        InputError: there are no requests, the window is wider than the model, or no fact is known.
        RequestError: a subject has no token in its prompt.
        ModelError: the model's parts cannot be found.
    """
    config = config or TraceConfig()
    if not requests:
        raise InputError("no facts to trace were given")
    parts = anatomy(model)
    count = len(parts.layers)
    if config.window is not None and config.window > count:
        raise InputError(f"a window of {config.window} layers is wider than the model, which has {count}")
    width = config.window or default_window(count)
    tracer = Tracer(model, parts, max_tokens=max_tokens)
    prompts = [tokenize_for_trace(tokenizer, request) for request in requests]
    std = config.noise * embedding_std(model, prompts)
    facts: list[TracedFact] = []
    unknown: list[tuple[Request, str]] = []
    with progress_bar("tracing", total=len(requests)) as bar:
        for request, prompt in zip(requests, prompts, strict=True):
            clean = tracer.clean(prompt)
            answer = int(clean.probabilities.argmax())
            text = tokenizer.decode([answer])
            if prompt.answer not in (None, answer):
                unknown.append((request, text))
            else:
                noise = std * unit_noise(model, prompt, config.samples, f"{config.seed}\0{request.text}")
                run = tracer.corrupted(clean, noise)
                corrupted = float(run.probabilities[:, answer].double().mean())
                effects = _effects(tracer, run, answer, corrupted, width)
                facts.append(TracedFact(request, text, float(clean.probabilities[answer]), corrupted, effects))
            bar.advance()
    if not facts:
        request, text = unknown[0]
        raise InputError(
            f"none of the {len(requests)} facts is known to the model (to {request.text!r} it answers {text!r}, not "
            f"{request.target_true!r}); give facts that it knows, or records without target_true to trace the model's "
            "own answers"
        )
    return Location(tuple(facts), tuple(unknown), replace(config, window=width), std, count)


def _effects(
    tracer: Tracer, run: CorruptedRun, answer: int, corrupted: float, width: int
) -> dict[str, dict[str, Tensor]]:
    """Kind -> class of token -> (layers,) effects, averaged over the noise samples and the class's tokens."""
    classes = run.clean.prompt.classes()
    if not classes:  # a prompt that is nothing but a subject of one token
        return {kind: {} for kind in KINDS}
    singles = [[position] for positions in classes.values() for position in positions]
    sizes = [len(positions) for positions in classes.values()]
    count = len(tracer.parts.layers)
    found = {}
    for kind in KINDS:
        together = [range(i, i + 1) if kind == "layer" else window(i, width, count) for i in range(count)]
        columns = [tracer.restored(run, kind, layers, singles, answer).mean(1) - corrupted for layers in together]
        tables = torch.stack(columns, dim=1).split(sizes)
        found[kind] = {name: table.mean(0) for name, table in zip(classes, tables, strict=True)}
    return found
