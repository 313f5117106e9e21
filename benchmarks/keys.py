"""Keys and current values at the lookup token, against one prompt at a time: ``python -m benchmarks.keys``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.figures import Rates, matrix_parameters, measure_rates, part_figures, side_by_side
from benchmarks.options import Command, size
from benchmarks.plain_loop import plain_keys, plain_outputs
from benchmarks.plots import Plot
from benchmarks.timing import Cost, measure, measure_both
from benchmarks.world import MODELS, Subject, requests
from seqedit.facts.requests import Request
from seqedit.keys.measure import measure_keys, measure_outputs
from seqedit.keys.walk import KeyWalk
from seqedit.text.lookup import BARE, tokenize_request

RATIO_IS = (
    "baseline_seconds / seconds of measuring keys and values anew for every layer, as an edit must; the baseline is "
    "two passes per layer, one prompt at a time, through the whole model; no figure was promised"
)
PLOT = Plot("requests", {"cpu_seconds": "per layer", "baseline_cpu_seconds": "one prompt at a time"}, ("model",))


@dataclass(frozen=True)
class Sizes:
    """What is measured."""

    models: tuple[str, ...] = size(MODELS, "shipped models")
    requests: tuple[int, ...] = size((64, 256), "numbers of requests, the last one is the headline's")
    layers: tuple[int, ...] = size((0, 1, 2, 3, 4), "layers")
    baseline_requests: int = size(32, "most requests that are measured one prompt at a time; the rest is scaled")
    batch: int = size(128, "prompts of one pass of the baseline that batches them, as MEMIT's program does")


QUICK = Sizes(MODELS[1:], (4,), (0, 1), 2, 4)


def run(quick: bool) -> dict[str, Any]:
    """Measure on the documented sizes, or with ``quick`` on small ones."""
    return run_sizes(QUICK if quick else Sizes())


def run_sizes(sizes: Sizes) -> dict[str, Any]:
    """Measure the sizes; a row for each model and number of requests."""
    rates = measure_rates()
    rows = [_row(Subject.load(name), count, sizes, rates) for name in sizes.models for count in sizes.requests]
    headline = min((r for r in rows if r["requests"] == sizes.requests[-1]), key=lambda row: row["ratio"])
    return part_figures(headline, RATIO_IS, sizes, rows)


def _row(subject: Subject, count: int, sizes: Sizes, rates: Rates) -> dict[str, Any]:
    edits = requests(count)
    few = edits[: sizes.baseline_requests]

    def plain(chosen: Sequence[Request], at_once: int) -> None:
        for layer in sizes.layers:
            plain_keys(subject.model, subject.parts, subject.tokenizer, chosen, subject.contexts, layer, at_once)
            plain_outputs(subject.model, subject.parts, subject.tokenizer, chosen, max(sizes.layers), at_once)

    ours, theirs = measure_both(lambda: _per_layer(subject, edits, sizes.layers), lambda: plain(few, 1), 2)
    together = measure(lambda: _measured(subject, edits, sizes.layers), 2)
    batched = measure(lambda: plain(edits, sizes.batch), 1)
    row = {
        "model": subject.name,
        "requests": count,
        **side_by_side(ours, theirs.times(count / len(few))),
        "baseline_measured_on": len(few),
        "one_pass_for_all_layers": _against(together, theirs.times(count / len(few))),
        "baseline_in_batches": {"batch": sizes.batch, **_against(ours, batched)},
        "floor": rates.floor(*_counted(subject, edits, sizes.layers)),
    }
    print(f"{subject.name}, {count} requests, {len(sizes.layers)} layers: {ours.seconds:.2f} s, {row['ratio']:.1f} x; "
          f"in one pass {together.seconds:.2f} s; baseline in batches {batched.seconds:.2f} s",
          file=sys.stderr, flush=True)  # fmt: skip
    return row


def _measured(subject: Subject, edits: Sequence[Request], layers: Sequence[int]) -> None:
    measure_keys(subject.model, subject.parts, subject.tokenizer, edits, subject.contexts, layers)
    measure_outputs(subject.model, subject.tokenizer, edits, subject.parts.layers[max(layers)])


def _per_layer(subject: Subject, edits: Sequence[Request], layers: Sequence[int]) -> None:
    """As in an edit, where every written layer moves what the layers above it get."""
    module = subject.parts.layers[max(layers)]
    walk = KeyWalk(subject.model, subject.parts, subject.tokenizer, edits, subject.contexts, module)
    for layer in layers:
        walk.at(layer)


def _against(ours: Cost, theirs: Cost) -> dict[str, float]:
    return side_by_side(ours, theirs)


def _counted(subject: Subject, edits: Sequence[Request], layers: Sequence[int]) -> tuple[float, float]:
    """Operations and bytes of what must be measured.

    Counted are the products with weights: every different beginning of a prompt, up to its lookup token, once through
    each layer up to the last but one written; those of the bare prompts, for every written layer, from it on to the
    last; the weights are read once for each of these passes.
    """
    matrices = [matrix_parameters(layer) for layer in subject.parts.layers]
    contexts = [context for group in subject.contexts for context in group]
    every = _beginnings(subject, [(r, c) for r in edits for c in contexts])
    bare = _beginnings(subject, [(r, BARE) for r in edits])
    last = max(layers) + 1
    operations = 2 * every * sum(matrices[:last]) + 2 * bare * sum(sum(matrices[n + 1 : last]) for n in layers)
    item = next(subject.model.parameters()).element_size()
    return operations, len(layers) * item * sum(matrices[:last])


def _beginnings(subject: Subject, prompts: Sequence[tuple[Request, str]]) -> int:
    """Tokens of the prefix tree of prompts up to their lookup tokens."""
    rows = {(p.ids, p.lookup) for p in (tokenize_request(subject.tokenizer, r, c) for r, c in prompts)}
    return len({ids[: k + 1] for ids, lookup in rows for k in range(lookup + 1)})


COMMAND = Command("keys", QUICK, Sizes(), run_sizes, PLOT.draw)

if __name__ == "__main__":
    sys.exit(COMMAND.main())
