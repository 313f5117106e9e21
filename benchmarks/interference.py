"""Whether near keys foretell forgetting: ``python -m benchmarks.interference --json out.json --plot out.png``.

A sequence of batches is edited on a shipped model without protection. Of every fact that was right just after its
batch it is asked whether it still is at the end, and held against the largest cosine of its key to a later one, which
`seqedit plan` gives before anything is written. Logistic fits give the odds ratio of survival per +0.1.
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


QUICK = Sizes(batches=3, batch_size=4, seeds=(0,))


def run_sizes(sizes: Sizes) -> dict[str, Any]:
    """Edit every seed's facts in both orders; fit, bin and compare the predictors."""
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
    found: dict[str, Any] = {}
    for name in (*ORDERS, "both"):
        some = [row for row in asked if name in (row["order"], "both")]
        kept = np.array([row["kept"] for row in some], dtype=float)
        if len(some) < 8 or kept.all() or not kept.any():
            found[name] = {"facts": len(some), "kept": int(kept.sum()), "note": "nothing to fit"}
            continue
        groups = [(row["seed"], row["order"], row["batch"]) for row in some]
        after = np.log([row["after"] for row in some])
        parts: dict[str, Any] = {"facts": len(some), "kept": int(kept.sum())}
        for metric in METRICS:
            x = np.array([row[metric] for row in some]) * 10
            parts[metric] = {
                "alone": logistic(np.column_stack([x]), kept, groups), "auc": auc(-x, kept),
                # The more comes later, the larger the largest cosine: what is left of it with that held fixed.
                "with_number_later": logistic(np.column_stack([x, after]), kept, groups),
                "bins": binned(x / 10, kept),
            }  # fmt: skip
        parts["number_later"] = {"auc": auc(-after, kept)}
        found[name] = parts
    return {"fits": found}


def draw(figures: dict[str, Any], file: Path) -> None:
    """Calibration: survival by cosine with intervals and the fitted curve; a panel for each cosine."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shape, axes = pyplot.subplots(1, len(METRICS), figsize=(9.6, 3.9), sharey=True)
    sizes = figures["sizes_are"]
    for axis, metric in zip(axes, METRICS, strict=True):
        for order, colour in (("file", "C0"), ("clustered", "C1")):
            fit = figures["fits"][order].get(metric)
            if fit is None:
                continue
            bins = fit["bins"]
            shares = [one["share"] for one in bins]
            error = [[max(0.0, one["share"] - one["low"]) for one in bins],
                     [max(0.0, one["high"] - one["share"]) for one in bins]]  # fmt: skip
            axis.errorbar([one["mean"] for one in bins], shares, yerr=error, fmt="o", color=colour, capsize=3)
            line, ratio = np.linspace(bins[0]["low_edge"], bins[-1]["high_edge"], 60), fit["alone"]
            curve = 1 / (1 + np.exp(-(ratio["intercept"] + ratio["slopes"][0]["slope"] * line * 10)))
            one = ratio["slopes"][0]
            label = f"{order}: odds x{one['odds_ratio']:.2f} [{one['low']:.2f}, {one['high']:.2f}] per +0.1"
            axis.plot(line, curve, color=colour, label=label)
        axis.set(xlabel=f"largest cosine to a later key ({metric})", ylim=(-0.02, 1.02))
        axis.grid(True, alpha=0.3)
        if axis.lines:
            axis.legend(fontsize=7.5, loc="lower left")
    axes[0].set_ylabel("still right at the end")
    shape.suptitle(
        f"{Path(sizes['model']).name}, {sizes['method']}, weight {sizes['weight']:g}, "
        f"{sizes['batches']} batches of {sizes['batch_size']}, unprotected", fontsize=10,
    )  # fmt: skip
    shape.tight_layout()
    shape.savefig(file, dpi=110)
    pyplot.close(shape)


COMMAND = Command("interference", QUICK, Sizes(), run_sizes, draw)

if __name__ == "__main__":
    sys.exit(COMMAND.main())
