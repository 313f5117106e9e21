"""Second moments of several layers against one plain forward pass: ``python -m benchmarks.second_moments``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from benchmarks.figures import Rates, fitted_exponent, matrix_parameters, measure_rates, part_figures, side_by_side
from benchmarks.options import Command, size
from benchmarks.plots import Plot
from benchmarks.timing import measure, measure_both
from benchmarks.world import MODELS, Subject, corpus
from seqedit.moments.measure import compute_second_moments

RATIO_IS = (
    "seconds / baseline_seconds, tokenizing included in both, the greater of all models; the baseline is the base "
    "model without LM head over the same rows of text, in batches of the size that is fastest; promised <= 1.3"
)
PLOT = Plot("tokens", {"cpu_seconds": "second moments", "baseline_cpu_seconds": "forward pass"}, ("model",))


@dataclass(frozen=True)
class Sizes:
    """What is measured."""

    models: tuple[str, ...] = size(MODELS, "shipped models")
    tokens: tuple[int, ...] = size((25_000, 100_000), "tokens of text; the last one is the headline's")
    layers: int = size(5, "how many layers, the model's last ones, so that nothing of the forward pass is saved")
    length: int = size(64, "tokens of one row")
    rows: int = size(0, "rows of one forward pass of ours; 0 for what suits the device")
    baseline_rows: tuple[int, ...] = size((16, 64), "rows of one forward pass of the baseline; the fastest counts")
    repeats: int = size(2, "runs of each, the least counts")


QUICK = Sizes(MODELS[1:], (512, 1024), 2, 32, 8, (4, 8), 1)


def run(quick: bool) -> dict[str, Any]:
    """Measure on the documented sizes, or with ``quick`` on small ones."""
    return run_sizes(QUICK if quick else Sizes())


def run_sizes(sizes: Sizes) -> dict[str, Any]:
    """Measure the sizes; a row for each model and number of tokens."""
    rates = measure_rates()
    rows = [_row(Subject.load(name), count, sizes, rates) for name in sizes.models for count in sizes.tokens]
    headline = max((r for r in rows if r["tokens"] == sizes.tokens[-1]), key=lambda row: row["ratio"])
    curve = {row["tokens"]: row["cpu_seconds"] for row in rows if row["model"] == headline["model"]}
    return {**part_figures(headline, RATIO_IS, sizes, rows), "exponent": fitted_exponent(curve)}


def _row(subject: Subject, count: int, sizes: Sizes, rates: Rates) -> dict[str, Any]:
    last = len(subject.parts.layers)
    projections = [p for layer, p in subject.parts.projections.items() if layer >= last - sizes.layers]
    texts = corpus(8 * count)  # at least two characters of every token that is asked for
    counted = []

    def ours() -> None:
        counted.append(
            compute_second_moments(
                subject.model, subject.tokenizer, projections, texts,
                max_tokens=count, sequence_length=sizes.length, rows_per_batch=sizes.rows or None,
            ).tokens
        )  # fmt: skip

    def plain(rows: int) -> None:
        base = subject.model.get_decoder() if hasattr(subject.model, "get_decoder") else subject.model.base_model
        with torch.no_grad():
            for batch in _batches(subject.tokenizer, texts, count, sizes.length, rows):
                ids = torch.tensor(batch)
                base(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)

    pairs = [(rows, *measure_both(ours, partial(plain, rows), sizes.repeats)) for rows in sizes.baseline_rows]
    chosen, _, second = min(pairs, key=lambda pair: pair[2].seconds)
    first = min((mine for _, mine, _ in pairs), key=lambda cost: cost.seconds)
    tokenizing = measure(lambda: list(_batches(subject.tokenizer, texts, count, sizes.length, chosen)), sizes.repeats)
    if counted[-1] < count:
        raise AssertionError(f"the corpus gave {counted[-1]} tokens of {count}")
    matrices = sum(matrix_parameters(layer) for layer in subject.parts.layers)
    widths = [p.matrix().shape[1] for p in projections]
    # A symmetric product needs its lower half alone: d (d + 1) operations for each token.
    moments = sum(d * (d + 1) for d in widths)
    item = next(subject.model.parameters()).element_size()
    row = {
        "model": subject.name,
        "tokens": count,
        **side_by_side(first, second, speedup=False),
        "baseline_rows": chosen,
        "ratio_without_tokenizing": (first.seconds - tokenizing.seconds) / (second.seconds - tokenizing.seconds),
        "tokenizing_seconds": tokenizing.seconds,
        "tokens_per_second": count / first.seconds,
        "operations_of_moments_per_forward": moments / (2 * matrices),
        "floor": rates.floor(count * (2.0 * matrices + moments), item * (matrices + sum(d * d for d in widths))),
    }
    print(f"{subject.name}, {count} tokens, {len(projections)} layers: {first.seconds:.2f} s, forward pass "
          f"{second.seconds:.2f} s, ratio {row['ratio']:.2f}, without tokenizing {row['ratio_without_tokenizing']:.2f}",
          file=sys.stderr, flush=True)  # fmt: skip
    return row


def _batches(
    tokenizer: Any, texts: Sequence[str], count: int, length: int, rows_at_once: int
) -> Iterator[list[list[int]]]:
    """The same rows: texts end to end with end-of-text between them, cut into rows of one length."""
    buffer: list[int] = []
    rows: list[list[int]] = []
    given = 0
    for text in texts:
        buffer += [*tokenizer(text, verbose=False)["input_ids"], tokenizer.eos_token_id]
        while len(buffer) >= length and given < count:
            rows.append(buffer[:length])
            del buffer[:length]
            given += length
            if len(rows) == rows_at_once:
                yield rows
                rows = []
    if rows:
        yield rows


COMMAND = Command("second_moments", QUICK, Sizes(), run_sizes, PLOT.draw)

if __name__ == "__main__":
    sys.exit(COMMAND.main())
