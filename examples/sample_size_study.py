"""How much text second moments need: error of C0 and of MEMIT's update against sample size, with and without shrinkage.

    python examples/sample_size_study.py --model demo-llama --out out/sample-size

The documents are shuffled; samples are the first of them, the reference is measured on those after the largest sample.
The edit is one batch of the shipped demo world, with the same target values throughout; its error is that to the
reference's with the same shrinkage. Writes sample_size.csv and .png.
"""

from __future__ import annotations

import argparse
import csv
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

from evals.report.figures import COLORS, INK, MARKERS, blank_figure, label, legend, quiet_axes, write_png
from evals.scores.counterfact import score_records
from seqedit.adapters.adapter import Adapter
from seqedit.editing.compute import apply_adapter, compute_adapter
from seqedit.editing.settings import method_config
from seqedit.errors import NumericsError
from seqedit.facts.loading import load_records
from seqedit.facts.requests import requests_of
from seqedit.keys.templates import sample_context_templates
from seqedit.methods.config import ClosedFormConfig
from seqedit.methods.interface import scratch
from seqedit.models.edited import EditedModel
from seqedit.models.loading import load_model
from seqedit.moments.measure import compute_second_moments
from seqedit.moments.second_moments import SecondMoments, sample_size, shrink
from seqedit.text.plain_text import TextSource, default_text

FIELDS = ("tokens_per_dimension", "tokens", "shrinkage", "c0_error", "delta_error", "ES", "PS", "NS")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo-llama")
    parser.add_argument("--text", help="by default what goes with the model")
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--per-dimension", type=float, nargs="+", default=[0.5, 1, 2, 3, 5, 10, 20, 50, 87])
    parser.add_argument("--shrinkage", type=float, nargs="+", default=[0.0, 0.001, 0.01, 0.1])
    parser.add_argument("--reference-tokens", type=int, default=400_000)
    parser.add_argument("--out", type=Path, default=Path("out/sample-size"))
    given = parser.parse_args()

    edited = EditedModel(*load_model(given.model), name=given.model)
    config = method_config("memit", preset=given.model)
    assert isinstance(config, ClosedFormConfig)
    text = list(TextSource(given.text or default_text(given.model)))
    random.Random(0).shuffle(text)
    projections = edited.parts.projections_of(config.layers)
    largest = sample_size(projections, max(given.per_dimension))
    used = texts_of(edited.tokenizer, text, largest)
    reference = measure(edited, config, text[used:], given.reference_tokens)
    print(f"reference: {reference.tokens:,} tokens, after {used:,} texts")

    facts = load_records("demo:counterfact.json")[: given.requests]
    templates = sample_context_templates(edited.model, edited.tokenizer, seed=0)
    found: Adapter | None = None

    def edit(moments: SecondMoments, shrinkage: float) -> Adapter:
        return compute_adapter(
            edited.model, edited.tokenizer, requests_of(facts), "memit", replace(config, shrinkage=shrinkage),
            base_model=edited.base_model, second_moments=moments, context_templates=templates,
            target_values=None if found is None else found.target_values,
        )  # fmt: skip

    # The first is for its target values.
    found = edit(reference, max(given.shrinkage))
    expected = {shrinkage: edit(reference, shrinkage) for shrinkage in given.shrinkage}
    rows = [row(edited, facts, "reference", reference, s, reference, expected[s], expected[s]) for s in expected]
    for per_dimension in given.per_dimension:
        moments = measure(edited, config, text, sample_size(projections, per_dimension))
        for shrinkage in given.shrinkage:
            try:
                adapter: Adapter | None = edit(moments, shrinkage)
            except NumericsError:  # fewer keys than dimensions, and no shrinkage
                adapter = None
            rows.append(row(edited, facts, per_dimension, moments, shrinkage, reference, adapter, expected[shrinkage]))
            print("  ".join(f"{name} {rows[-1][name]}" for name in FIELDS), flush=True)
    given.out.mkdir(parents=True, exist_ok=True)
    with (given.out / "sample_size.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    plot(rows[len(expected) :], given.shrinkage, given.out / "sample_size.png")


def texts_of(tokenizer: Any, texts: list[str], tokens: int) -> int:
    """How many of the texts hold so many tokens."""
    seen = 0
    for number, text in enumerate(texts, 1):
        seen += len(tokenizer(text)["input_ids"]) + 1
        if seen >= tokens:
            return number
    raise SystemExit(f"the text has only {seen:,} tokens; give fewer --per-dimension")


def measure(edited: EditedModel, config: ClosedFormConfig, texts: list[str], tokens: int) -> SecondMoments:
    """Second moments of the edited layers."""
    projections = edited.parts.projections_of(config.layers)
    return compute_second_moments(edited.model, edited.tokenizer, projections, texts, max_tokens=tokens)


def row(
    edited: EditedModel, facts: Any, per_dimension: Any, moments: SecondMoments, shrinkage: float,
    reference: SecondMoments, adapter: Adapter | None, expected: Adapter,
) -> dict[str, Any]:  # fmt: skip
    """One line of the table; errors are relative, in the Frobenius norm, averaged over the layers."""
    names = sorted(reference.matrices)
    c0 = [distance(shrink(moments.matrices[n].double(), shrinkage), reference.matrices[n].double()) for n in names]
    values: dict[str, Any] = dict.fromkeys(FIELDS, "")
    values |= {"tokens_per_dimension": per_dimension, "tokens": moments.tokens, "shrinkage": shrinkage}
    values["c0_error"] = f"{sum(c0) / len(c0):.4g}"
    if adapter is not None:
        deltas = [distance(adapter.deltas[n].dense(), expected.deltas[n].dense()) for n in names]
        values["delta_error"] = f"{sum(deltas) / len(deltas):.4g}"
        with scratch([p for p in edited.parts.projections if p.name in names]):
            apply_adapter(edited.model, adapter)
            scores = score_records(edited.model, edited.tokenizer, facts).summary
        values |= {name: f"{scores[name]:.1f}" for name in ("ES", "PS", "NS")}
    return values


def distance(found: Any, expected: Any) -> float:
    return float((found - expected).norm() / expected.norm())


def plot(rows: list[dict[str, Any]], shrinkages: list[float], path: Path) -> None:
    figure = blank_figure(9.6, 3.6)
    for index, (field, title) in enumerate((("c0_error", "second moment C0"), ("delta_error", "MEMIT's update"))):
        axes = quiet_axes(figure.add_subplot(1, 2, index + 1))
        for shrinkage, color, marker in zip(shrinkages, COLORS, MARKERS, strict=False):
            points = [
                (r["tokens_per_dimension"], float(r[field])) for r in rows if r["shrinkage"] == shrinkage and r[field]
            ]
            name = "no shrinkage" if shrinkage == 0 else f"shrinkage {shrinkage:g}"
            axes.plot(*zip(*points, strict=True), color=color, marker=marker, markersize=4, label=name)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.tick_params(which="both", colors=INK, labelsize=9)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_yticks([0.05, 0.1, 0.2, 0.5, 1, 2], minor=False)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
        label(axes, "tokens per input dimension", "relative error", title)
    legend(axes)
    write_png(figure, path)


if __name__ == "__main__":
    main()
