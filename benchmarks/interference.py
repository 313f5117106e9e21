"""Whether near keys foretell forgetting: ``python -m benchmarks.interference --json out.json --plot out.png``.

A sequence of batches is edited on a shipped model without protection. Of every fact that was right just after its
batch it is asked whether it still is at the end, and held against the largest cosine of its key to a later one, which
`seqedit plan` gives before anything is written. Logistic fits give the odds ratio of survival per +0.1.

With ``--ledger`` nothing is edited: the same is asked of finished runs (`benchmarks.interference_ledger`).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.interference_fit import auc, binned, logistic
from benchmarks.interference_ledger import MEASURES, ledger_rows
from benchmarks.options import Command, size
from benchmarks.world import records
from evals.scores.counterfact import score_records
from seqedit.adapters.adapter import Adapter
from seqedit.editing.loading import Loading
from seqedit.editing.one_batch import open_editor
from seqedit.editing.settings import method_config
from seqedit.errors import InputError
from seqedit.facts.loading import load_records
from seqedit.facts.requests import Record
from seqedit.methods.config import ClosedFormConfig, EditConfig
from seqedit.planning.interference import METRICS
from seqedit.planning.order import ORDERS
from seqedit.planning.planner import make_plan


@dataclass(frozen=True)
class Sizes:
    """What is measured."""

    model: str = size("demo-llama", "model")
    facts: str = size("", "fact file; empty for facts of the demo world in a random order")
    text: str = size("", "text for second moments; empty for the model's own")
    method: str = size("memit", "closed form")
    preset: str = size("", "preset; empty for the model's")
    layers: str = size("", "layers; empty for the preset's")
    batches: int = size(24, "number of batches")
    batch_size: int = size(16, "facts of a batch")
    weight: float = size(10.0, "second-moment weight; small ones forget more")
    seeds: tuple[int, ...] = size((0, 1), "seeds of the facts' order; each is edited in both orders")
    ledger: tuple[str, ...] = size((), "finished runs; then only --model, --text, --branch and --tokens count")
    branch: str = size("", "the runs' branch; empty for HEAD's")
    tokens: int = size(100_000, "sample size of the runs' second moments")


QUICK = Sizes(batches=3, batch_size=4, seeds=(0,))


def run_sizes(sizes: Sizes) -> dict[str, Any]:
    """Edit every seed's facts in both orders, or read finished runs; fit, bin and compare the predictors."""
    if sizes.ledger:
        return of_ledgers(sizes)
    given: dict[str, Any] = {"second_moment_weight": sizes.weight, "protect_earlier": False}
    config = method_config(
        sizes.method, preset=sizes.preset or sizes.model, settings=given, layers=sizes.layers or None
    )
    if not isinstance(config, ClosedFormConfig):
        raise InputError(f"method '{sizes.method}' is no closed form; its keys are not solved for")
    editor = open_editor(Loading(sizes.model, text=sizes.text or None))
    rows: list[dict[str, Any]] = []
    predicted: list[dict[str, Any]] = []
    for seed in sizes.seeds:
        facts = _facts(sizes, seed)
        requests = [record.request for record in facts]
        for order in ORDERS:
            lead = make_plan(editor, requests, sizes.method, config, batch_size=sizes.batch_size, order=order)
            found = _sequence(editor, facts, lead.batches, sizes.method, config)
            cosines = {metric: _later(editor, requests, sizes, config, metric, lead.batches) for metric in METRICS}
            for number, batch in enumerate(lead.batches, 1):
                for position in batch:
                    rows.append({
                        "seed": seed, "order": order, "batch": number, "position": position,
                        "after": sum(map(len, lead.batches[number:])), **found[position],
                        **{metric: cosines[metric][position] for metric in METRICS},
                    })  # fmt: skip
            known = [row for row in rows if row["seed"] == seed and row["order"] == order and row["right"]]
            kept = sum(row["kept"] for row in known)
            predicted.append({
                "seed": seed, "order": order, **lead.orders[order].to_dict(), "right": len(known), "kept": kept,
                "kept_of_all": sum(row["kept"] for row in rows if row["seed"] == seed and row["order"] == order),
            })  # fmt: skip
            print(f"seed {seed}, {order} order: {kept} of {len(known)} kept", file=sys.stderr, flush=True)
    return {"sizes_are": asdict(sizes), "orders": predicted, **analysed(rows), "rows": rows}


def of_ledgers(sizes: Sizes) -> dict[str, Any]:
    """Fit, bin and compare the predictors of finished runs, each run alone."""
    runs: dict[str, Any] = {}
    fits: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    # The option's own value is a demo model: a ledger knows where its model was.
    model = None if sizes.model == Sizes().model else sizes.model
    for place in sizes.ledger:
        found, told = ledger_rows(
            place, sizes.branch or None, model=model, text=sizes.text or None, tokens=sizes.tokens
        )  # fmt: skip
        label = f"{told['method']}{'' if told['protected'] else ' unprotected'}"
        label = label if label not in runs else f"{label} ({place})"
        runs[label] = {"ledger": place, **told}
        measures = MEASURES if told["protected"] else METRICS
        fits[label] = fitted([row for row in found if row["right"] and row["solver"] is not None], measures)
        rows += [{"run": label, **row} for row in found]
    return {"sizes_are": asdict(sizes), "runs": runs, "fits": fits, "rows": rows}


def _facts(sizes: Sizes, seed: int) -> list[Record]:
    count = sizes.batches * sizes.batch_size
    if not sizes.facts:
        return records(count, seed)
    found = load_records(sizes.facts)
    if len(found) < count:
        raise InputError(f"{sizes.facts} holds {len(found)} facts, {count} are needed")
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(seed))[:count]
    return [found[i] for i in order.tolist()]


def _later(
    editor: Any, requests: Sequence[Any], sizes: Sizes, config: EditConfig, metric: Any, batches: Any
) -> dict[int, float | None]:
    """Position -> largest cosine to a later key, with the facts as they were edited."""
    flat = [position for batch in batches for position in batch]
    plan = make_plan(
        editor, [requests[i] for i in flat], sizes.method, config, batch_size=sizes.batch_size, metric=metric
    )  # fmt: skip
    return {flat[fact.position]: None if fact.later is None else fact.later.cosine for fact in plan.facts}


def _sequence(
    editor: Any, facts: Sequence[Record], batches: Sequence[Sequence[int]], method: str, config: EditConfig
) -> dict[int, dict[str, bool]]:
    """Position -> whether the fact was right just after its batch, and still is at the end."""
    adapters: list[Adapter] = []
    found: dict[int, dict[str, bool]] = {}
    try:
        for batch in batches:
            adapters.append(editor.compute([facts[i].request for i in batch], method, config))
            editor.edited.apply(adapters)
            right = _right(editor, [facts[i] for i in batch])
            found |= {i: {"right": one} for i, one in zip(batch, right, strict=True)}
        for i, one in zip(range(len(facts)), _right(editor, facts), strict=True):
            found[i]["kept"] = one and found[i]["right"]
    finally:
        editor.edited.apply([])
    return found


def _right(editor: Any, facts: Sequence[Record]) -> list[bool]:
    """Whether the new answer is the argmax (EM)."""
    bare = [Record(record.request) for record in facts]
    return [value == 1 for value in score_records(editor.edited.model, editor.edited.tokenizer, bare).values("EM")]


def analysed(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Fits, bins and areas under the curve of both cosines, for both orders, each and together.

    Only facts that were right just after their batch and have something later count. Standard errors are clustered by
    batch: facts of one batch share a fate.
    """
    asked = [row for row in rows if row["right"] and row["solver"] is not None]
    found = {name: fitted([row for row in asked if name in (row["order"], "both")]) for name in (*ORDERS, "both")}
    return {"fits": found}


def fitted(rows: Sequence[Mapping[str, Any]], metrics: Sequence[str] = METRICS) -> dict[str, Any]:
    """Fits, bins and areas under the curve of some cosines; ``note`` instead where all or none were kept."""
    kept = np.array([row["kept"] for row in rows], dtype=float)
    if len(rows) < 8 or kept.all() or not kept.any():
        return {"facts": len(rows), "kept": int(kept.sum()), "note": "nothing to fit"}
    groups = [(row["seed"], row["order"], row["batch"]) for row in rows]
    after = np.log([row["after"] for row in rows])
    parts: dict[str, Any] = {"facts": len(rows), "kept": int(kept.sum())}
    for metric in metrics:
        x = np.array([row[metric] for row in rows]) * 10
        parts[metric] = {
            "alone": logistic(np.column_stack([x]), kept, groups), "auc": auc(-x, kept),
            # The more comes later, the larger the largest cosine: what is left of it with that held fixed.
            "with_number_later": logistic(np.column_stack([x, after]), kept, groups),
            "bins": binned(x / 10, kept),
        }  # fmt: skip
    parts["number_later"] = {"auc": auc(-after, kept), "alone": logistic(np.column_stack([after]), kept, groups)}
    return parts


def draw(figures: dict[str, Any], file: Path) -> None:
    """Calibration: survival by cosine with intervals and the fitted curve; a panel for each cosine."""
    from evals.report.figures import COLORS, INK, MARKERS, blank_figure, label, quiet_axes, write_png

    figure = blank_figure(9.6, 3.9)
    panels = figure.subplots(1, len(METRICS), sharey=True)
    names = figures.get("runs") or ORDERS
    for axes, metric in zip(panels, METRICS, strict=True):
        quiet_axes(axes)
        for color, marker, order in zip(COLORS, MARKERS, names, strict=False):
            fit = figures["fits"][order].get(metric)
            if fit is None:
                continue
            bins = fit["bins"]
            shares = [one["share"] for one in bins]
            error = [[max(0.0, one["share"] - one["low"]) for one in bins],
                     [max(0.0, one["high"] - one["share"]) for one in bins]]  # fmt: skip
            axes.errorbar([one["mean"] for one in bins], shares, yerr=error, fmt=marker, color=color, markersize=4)
            one = fit["alone"]["slopes"][0]
            name = f"{order}: odds x{one['odds_ratio']:.2f} [{one['low']:.2f}, {one['high']:.2f}] per +0.1"
            if len(bins) < 3 or figures.get("quick"):  # a curve fits any two points
                axes.lines[-1].set_label(order)
                continue
            line = np.linspace(bins[0]["low_edge"], bins[-1]["high_edge"], 60)
            curve = 1 / (1 + np.exp(-(fit["alone"]["intercept"] + one["slope"] * line * 10)))
            axes.plot(line, curve, color=color, linewidth=1.5, label=name)
        label(axes, f"largest cosine to a later key ({metric})", "", "")
        axes.set_ylim(-0.02, 1.02)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(fontsize=7.5, loc="lower left", frameon=False, labelcolor=INK)
    panels[0].set_ylabel("still right at the end", color=INK, fontsize=10)
    figure.suptitle(_title(figures), fontsize=11, color=INK)
    write_png(figure, file)


def _title(figures: Mapping[str, Any]) -> str:
    sizes = figures["sizes_are"]
    if "runs" in figures:
        first = next(iter(figures["runs"].values()))
        return f"{Path(first['model']).stem}: finished runs, {first['facts']} facts in {first['batches']} batches"
    return (
        f"{Path(sizes['model']).name}, {sizes['method']}, weight {sizes['weight']:g}, "
        f"{sizes['batches']} batches of {sizes['batch_size']}, unprotected"
    )


COMMAND = Command("interference", QUICK, Sizes(), run_sizes, draw)

if __name__ == "__main__":
    sys.exit(COMMAND.main())
