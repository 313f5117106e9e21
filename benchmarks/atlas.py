"""A model's atlas: what layers, learning rate and second-moment weight do to edits of one batch.

    python -m benchmarks.atlas --model M --facts counterfact.json --text plain.txt --out out/atlas

Target values are optimised once for every layer and rate, and every weight is solved from them; the model's weights
are put back after each trial. Trials are kept in ``--out`` and not made again; ``atlas.md`` and ``atlas.png`` grow with
them.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from evals.report.figures import INK, blank_figure, write_png
from seqedit.editing.layer_figures import LayerFigures, layer_figures, window
from seqedit.errors import InputError, SeqeditError
from seqedit.facts.requests import Record, requests_of
from seqedit.library.inputs import facts_of
from seqedit.models.edited import EditedModel
from seqedit.models.loading import load_model
from seqedit.moments.providing import SecondMomentSettings, provide_second_moments
from seqedit.scoring.summary import write_summary
from seqedit.solver.factorizations import Factorizations
from seqedit.text.plain_text import TextSource
from seqedit.tuning.bench import TuneBench

_LOG = logging.getLogger(__name__)
DEPTHS = (0.05, 1 / 6, 0.3, 0.45, 0.6)
RATES = (0.2, 1.0, 2.0)
"""Of the rate that the rule gives, which reaches three hidden norms."""
SHARES = (0.4, 0.9, 0.99)
"""Of a lone fact's residual that is written."""
SCORES = ("ES", "EM", "PS", "NS")


def atlas(
    edited: EditedModel, records: Sequence[Record], text: Path, out: Path, *, method: str = "memit",
    depths: Sequence[float] = DEPTHS, rates: Sequence[float] = RATES, shares: Sequence[float] = SHARES,
    steps: int = 25, max_tokens: int = 20_000, seed: int = 0,
) -> list[dict[str, Any]]:  # fmt: skip
    """One batch at every layer, rate and weight.

    Args:
        edited: The unedited model.
        records: The batch.
        text: Plain text, for second moments and perplexity.
        out: Folder of what comes out, and of target values.
        method: A closed form.
        depths: Last layers, as a share of the model's depth; each is tried with the two below it.
        rates: Multiples of the rule's rate.
        shares: Written shares of a lone fact's residual, which give the weights.
        steps: Optimisation steps.
        max_tokens: Plain text for C0.
        seed: Of the context templates.

    Returns:
        A row a trial: "layers", "rate", "of_rule", "share", "weight", "converged", scores, "NS_unedited",
        "hidden_norm" and "key_norm".
    """
    count = len(edited.parts.layers)
    lasts = sorted({min(count - 1, round(depth * count)) for depth in depths})
    needed = sorted({layer for last in lasts for layer in window(last)})
    settings = SecondMomentSettings(text=str(text), max_tokens=max_tokens)
    factors = Factorizations(provide_second_moments(edited, needed, settings))
    bench = TuneBench(edited, method, factors, list(TextSource(str(text))), out, seed)
    known = _known(out)
    a = bench.config({"layers": [0]}).relaxation(len(records))
    for last in lasts:
        projection = edited.parts.projections[last]
        figures = layer_figures(
            edited.model, edited.parts, edited.tokenizer, requests_of(records), bench.contexts, last,
            factors.cholesky(projection, weight=1.0, shrinkage=0.0), steps=steps,
        )  # fmt: skip
        for of_rule in rates:
            for share in shares:
                key = f"{last} {of_rule:g} {share:g}"
                if key not in known:
                    known[key] = _trial(bench, records, figures, of_rule, share, a, steps)
                    write_summary(out / "atlas.json", known)
                    write_atlas(out, list(known.values()))
                _LOG.info("%s", _row(known[key]))
    return list(known.values())


def _trial(
    bench: TuneBench, records: Sequence[Record], figures: LayerFigures, of_rule: float, share: float, a: float,
    steps: int,
) -> dict[str, Any]:  # fmt: skip
    layers = list(window(figures.layer))
    given: dict[str, Any] = {
        "layers": layers, "spread": "even" if len(layers) > 1 else "single", "steps": steps,
        "learning_rate": float(f"{of_rule * figures.learning_rate:.2g}"),
        "second_moment_weight": figures.weight_for(share, a),
    }  # fmt: skip
    config = bench.config(given)
    values, losses = bench.target_values(records, config)
    trial = bench.solved(records, given, values)
    return {
        "layers": layers, "rate": config.learning_rate, "of_rule": of_rule, "share": share,
        "weight": config.second_moment_weight,
        "converged": sum(loss < config.stop_below for loss in losses) / len(losses),
        **{name: trial.scores[name] for name in SCORES}, "NS_unedited": bench.unedited(records)["NS"],
        "hidden_norm": figures.hidden_norm, "key_norm": figures.key_norm,
    }  # fmt: skip


def write_atlas(out: Path, rows: Sequence[Mapping[str, Any]]) -> tuple[Path, Path]:
    """``atlas.png`` (a panel a score: layers across, rate and share down) and ``atlas.md``."""
    figure = blank_figure(11.0, 3.8)
    names = ("ES", "EM", "PS", "NS")
    for axes, name in zip(figure.subplots(1, len(names), sharey=True), names, strict=True):
        _map(axes, rows, name)
    table = out / "atlas.md"
    head = ["layers", "rate", "weight", "converged", *SCORES]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1), *map(_row, rows)]
    table.write_text("\n".join(lines) + "\n", "utf-8")
    return write_png(figure, out / "atlas.png"), table


def _map(axes: Axes, rows: Sequence[Mapping[str, Any]], name: str) -> None:
    across = sorted({row["layers"][-1] for row in rows})
    down = sorted({(row["of_rule"], row["share"]) for row in rows})
    cells = [[float("nan")] * len(across) for _ in down]
    for row in rows:
        value = row[name]
        cells[down.index((row["of_rule"], row["share"]))][across.index(row["layers"][-1])] = (
            float("nan") if value is None else value
        )
    axes.imshow(cells, vmin=0, vmax=100, cmap="cividis", aspect="auto")
    for y, line in enumerate(cells):
        for x, value in enumerate(line):
            if value == value:
                axes.text(x, y, f"{value:.0f}", ha="center", va="center", fontsize=8,
                          color="#ffffff" if value < 55 else "#000000")  # fmt: skip
    axes.set_xticks(range(len(across)), [str(layer) for layer in across], color=INK, fontsize=9)
    axes.set_yticks(
        range(len(down)), [f"rate x{rate:g}, share {share:.0%}" for rate, share in down], color=INK, fontsize=9
    )
    unedited = next((row["NS_unedited"] for row in rows if row["NS_unedited"] is not None), None)
    title = f"NS (unedited {unedited:.0f})" if name == "NS" and unedited is not None else name
    axes.set_title(title, color=INK, fontsize=10, loc="left")
    axes.set_xlabel("last of three layers", color=INK, fontsize=9)


def _row(row: Mapping[str, Any]) -> str:
    scores = ["-" if row[name] is None else f"{row[name]:.0f}" for name in SCORES]
    layers = ", ".join(map(str, row["layers"]))
    return (
        "| " + " | ".join([layers, f"{row['rate']:g}", f"{row['weight']:g}", f"{row['converged']:.0%}", *scores]) + " |"
    )


def _known(out: Path) -> dict[str, Any]:
    file = out / "atlas.json"
    return dict(json.loads(file.read_text("utf-8"))) if file.is_file() else {}


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the atlas of a model."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--model", required=True, help="Hub id, directory, GGUF file or shipped model")
    parser.add_argument("--facts", type=Path, required=True, help="CounterFact records")
    parser.add_argument("--text", type=Path, required=True, help="plain text")
    parser.add_argument("--method", default="memit", help="a closed form")
    parser.add_argument("--number", type=int, default=8, help="facts of the batch")
    parser.add_argument("--skip", type=int, default=0, help="records left out before them")
    parser.add_argument("--depths", type=float, nargs="*", default=DEPTHS, help="last layers, as a share of the depth")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    records = facts_of(given.facts, limit=given.skip + given.number)[given.skip :]
    if len(records) < given.number:
        raise InputError(f"{given.facts} has too few records")
    edited = EditedModel(*load_model(given.model), name=given.model)
    atlas(edited, records, given.text, given.out, method=given.method, depths=given.depths)


if __name__ == "__main__":
    try:
        main()
    except SeqeditError as error:
        sys.exit(f"error: {error}")
