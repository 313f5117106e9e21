"""Find settings for a model and a method on calibration facts, the cheapest evidence first, within a time budget.

1. Norms and C0 give learning rate and weights for every layer that is tried (`seqedit.tuning.guess`).
2. A few facts get target values once per layer; every weight, and the spread over three layers, is solved from those.
3. The best few are confirmed on the other facts: two batches in sequence, earlier edits protected, perplexity measured.

Every trial is written to ``trials.json`` as soon as it is made and is not made again when the search is started anew
with the same folder.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from seqedit.errors import EnvironmentFailure, InputError
from seqedit.facts.requests import Record, check_batch, requests_of
from seqedit.models.edited import EditedModel
from seqedit.moments.providing import SecondMomentSettings, provide_second_moments
from seqedit.solver.factorizations import Factorizations
from seqedit.support.digests import json_digest
from seqedit.support.writing import write_whole
from seqedit.text.plain_text import TextSource, default_text
from seqedit.tuning.bench import TuneBench, check_method
from seqedit.tuning.budget import Budget
from seqedit.tuning.choice import Trial, ranked, tied
from seqedit.tuning.guess import SHARES, LayerFigures, candidate_layers, measure_layer, window

_LOG = logging.getLogger(__name__)

PROBE = 8
"""Facts of the first comparison at most; the others confirm."""
CONFIRMED = 3
"""How many settings are confirmed in sequence, if time allows."""
TOKENS = 20_000
"""Plain text for C0, unless more is asked for."""


@dataclass(frozen=True, eq=False)
class Tuned:
    """What was found.

    Attributes:
        method: The method.
        best: The trial whose settings are recommended; of the sequence if one was made.
        solved: Trials of the second stage, best first.
        confirmed: Trials of the third, best first.
        undecided: Trials that cannot be told from the best one.
        figures: What was measured of the layers.
        unedited: NS of the unedited model on the facts that decided, percent; None if no record tells.
        finished: False where the time was over before all trials were made.
        converged: Layer -> share of the probe's target values whose loss came below ``stop_below``.
        seconds: Time that this call took.
    """

    method: str
    best: Trial
    solved: tuple[Trial, ...]
    confirmed: tuple[Trial, ...]
    undecided: tuple[Trial, ...]
    figures: tuple[LayerFigures, ...]
    unedited: float | None
    finished: bool
    converged: Mapping[int, float]
    seconds: float


def tune(
    edited: EditedModel, records: Sequence[Record], method: str, out: Path, *, minutes: float = 15.0,
    layers: Sequence[int] | None = None, text: str | None = None, max_tokens: int = TOKENS, steps: int = 25,
    seed: int = 0, report: Callable[[str], None] = _LOG.info,
) -> Tuned:  # fmt: skip
    """Settings for a model and a method.

    Args:
        edited: The unedited model.
        records: Calibration facts, at least 8; keep them apart from those to be edited later.
        method: ``emmet`` or ``memit``.
        out: Folder of trials and target values; a search is resumed from it.
        minutes: Budget. What is expected to pass it, by what its like has taken, is not begun; the first layer is.
        layers: Layers to try; None for three depths.
        text: Plain text for C0 and perplexity; None for the model's default.
        max_tokens: Plain text for C0.
        steps: Optimisation steps.
        seed: Of the context templates.
        report: Takes a line of progress.

    Raises:
        InputError: too few facts, a method that cannot be tuned, or a folder with another search in it.
    """
    start = time.monotonic()
    check_method(method)
    if minutes <= 0:
        raise InputError(f"minutes must be positive, got {minutes:g}")
    if len(records) < 8:
        raise InputError(f"tuning needs at least 8 calibration facts, got {len(records)}")
    check_batch(requests_of(records))
    parts, base = edited.parts, edited.base_model
    tried = parts.check_layers(layers) if layers else candidate_layers(len(parts.layers))
    windows = {layer: window(layer) for layer in tried}
    needed = sorted({one for layer in tried for one in windows[layer]})
    source = text or default_text(base.name)
    moments = provide_second_moments(edited, needed, SecondMomentSettings(text=source, max_tokens=max_tokens))
    bench = TuneBench(edited, method, Factorizations(moments), list(TextSource(source)), out, seed)
    held = _Held(out, json_digest({
        "base": base.fingerprint, "method": method, "moments": moments.digest, "steps": steps, "seed": seed,
        "facts": [r.request.to_dict() for r in records],
    }))  # fmt: skip

    budget = Budget(minutes - (time.monotonic() - start) / 60, held.seconds)
    few = min(PROBE, len(records) // 2)
    probe, rest = records[:few], records[few:]
    standard = bench.config({"layers": [tried[0]]})
    figures = [
        measure_layer(edited.model, parts, edited.tokenizer, requests_of(records), bench.contexts, layer,
                      bench.factors, steps=steps, shrinkage=standard.shrinkage)
        for layer in tried
    ]  # fmt: skip
    finished, converged = True, {}
    solved: list[Trial] = []
    for found in figures:
        target = {"learning_rate": found.learning_rate, "steps": steps}
        grid: list[dict[str, Any]] = [
            {
                "layers": list(chosen), "spread": "even" if len(chosen) > 1 else "single", **target,
                "second_moment_weight": found.weight_for(share, standard.a), "protect_earlier": True,
            }
            for share in SHARES for chosen in dict.fromkeys(((found.layer,), windows[found.layer]))
        ]  # fmt: skip
        there = all(held.has("solved", settings) for settings in grid)
        if solved and not there and not budget.allows("layer"):
            finished = False
            break
        with budget.taking("layer"):
            with budget.taking("values"):
                values, losses = bench.target_values(probe, bench.config({"layers": [found.layer], **target}))
            converged[found.layer] = sum(loss < standard.stop_below for loss in losses) / len(losses)
            report(f"layer {found.layer}: rate {found.learning_rate:g}, {converged[found.layer]:.0%} converged")
            for settings in grid:
                solved.append(held.trial("solved", settings, partial(bench.solved, probe, settings, values)))
                report(line(solved[-1]))
        held.write()
    order = ranked(solved)
    batches = [rest[: len(rest) // 2], rest[len(rest) // 2 :]]
    confirmed: list[Trial] = []
    # Of more facts than a layer's probe, but scored once, where a layer's are scored for every weight.
    guess = held.seconds["layer"] * max(1.0, len(rest) / few)
    for trial in _apart(order):
        if not held.has("sequence", trial.settings) and not budget.allows("sequence", guess):
            finished = False
            break
        with budget.taking("sequence"):
            made = held.trial("sequence", trial.settings, partial(bench.sequence, batches, trial.settings))
        held.write()
        confirmed.append(made)
        report(line(confirmed[-1]))
    if not finished:
        left = len(figures) - len(converged)
        report(
            f"the budget of {minutes:g} minutes ends here: {left} of {len(figures)} layers were not tried, "
            f"{len(confirmed)} settings were confirmed in sequence"
        )
    final = ranked(confirmed) or order
    facts = rest if confirmed else probe
    return Tuned(
        method, final[0], tuple(order), tuple(ranked(confirmed)), tuple(_undecided(final, order)),
        tuple(figures), bench.unedited(facts)["NS"], finished, converged, time.monotonic() - start,
    )  # fmt: skip


def line(trial: Trial) -> str:
    """A trial on one line."""
    shown = "  ".join(f"{n} {'-' if v is None else format(v, '.1f')}" for n, v in trial.scores.items())
    growth = "" if trial.perplexity is None else f"  perplexity x{trial.perplexity:.3f}"
    where = ",".join(map(str, trial.settings["layers"]))
    weight = trial.settings["second_moment_weight"]
    return f"{trial.stage:8}  layers {where:9}  weight {weight:<8g}  goal {trial.goal:.1f}  {shown}{growth}"


def _undecided(final: Sequence[Trial], order: Sequence[Trial]) -> list[Trial]:
    """Trials that cannot be told from the best one: by the last stage, or by the one before where they missed it."""
    best, judged_last = final[0], [dict(trial.settings) for trial in final]
    twin = next(trial for trial in order if trial.settings == best.settings)
    rest = [trial for trial in order if dict(trial.settings) not in judged_last]
    return [*(t for t in final[1:] if tied(best, t)), *(t for t in rest if tied(twin, t))]


def _apart(order: Sequence[Trial]) -> list[Trial]:
    """The best few, at most two of the same layers: neighbours on the grid confirm little more than each other."""
    taken: list[Trial] = []
    for trial in order:
        if sum(t.settings["layers"] == trial.settings["layers"] for t in taken) < 2:
            taken.append(trial)
        if len(taken) == CONFIRMED:
            break
    return taken


class _Held:
    """Trials on disk."""

    def __init__(self, out: Path, search: str) -> None:
        self.file = out / "trials.json"
        self.search = search
        self.trials: dict[str, Any] = {}
        self.seconds: dict[str, float] = {}
        if self.file.is_file():
            try:
                data = json.loads(self.file.read_text("utf-8"))
                found, self.trials = data["search"], dict(data["trials"])
                self.seconds = {str(stage): float(value) for stage, value in dict(data.get("seconds", {})).items()}
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"{self.file} holds no trials ({error}); choose another --out") from error
            if found != search:
                raise InputError(f"{out} holds a search for another model, method or facts; choose another --out")

    def has(self, stage: str, settings: Mapping[str, Any]) -> bool:
        """Whether a trial is there."""
        return json_digest({"stage": stage, **settings}) in self.trials

    def trial(self, stage: str, settings: Mapping[str, Any], make: Callable[[], Trial]) -> Trial:
        key = json_digest({"stage": stage, **settings})
        if key in self.trials:
            return Trial.from_dict(self.trials[key])
        made = make()
        self.trials[key] = made.to_dict()
        self.write()
        return made

    def write(self) -> None:
        """Trials, and what their stages have taken, whole or not at all."""
        data = {"search": self.search, "seconds": self.seconds, "trials": self.trials}
        try:
            write_whole(self.file, json.dumps(data, indent=1))
        except OSError as error:
            raise EnvironmentFailure(f"{self.file} cannot be written: {error.strerror or error}") from error
