"""Find settings for a model and a method on calibration facts, the cheapest evidence first, within a time budget.

1. Norms and C0 give learning rate and weights for every layer that is tried (`seqedit.tuning.guess`).
2. A few facts get target values once per layer; every weight, and the spread over three layers, is solved from those.
   Where all of them lose the neighbours and a trend shows, layers further that way are tried too.
3. The best few are confirmed on the other facts: two batches in sequence, earlier edits protected, perplexity and tasks
   measured. While there is time, so are those that the probe cannot tell from them, and variants of the best one:
   unprotected, another number of steps, a tighter bound.

Every trial is written to ``trials.json`` as soon as it is made and is not made again when the search is started anew
with the same folder.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evals.tasks.tasks import LoadedTasks
from seqedit.facts.reading.unusable import Skipped
from seqedit.facts.requests import Record, requests_of
from seqedit.models.anatomy import Anatomy
from seqedit.models.edited import EditedModel
from seqedit.moments.providing import SecondMomentSettings, provide_second_moments
from seqedit.solver.factorizations import Factorizations
from seqedit.support.digests import json_digest
from seqedit.text.identity import tokenizer_digest
from seqedit.text.plain_text import TextSource, default_text
from seqedit.tuning.bench import TuneBench
from seqedit.tuning.budget import Budget
from seqedit.tuning.choice import Trial, failing, ranked, recommended, tied
from seqedit.tuning.guess import LayerFigures, candidate_layers, next_layer, window_of
from seqedit.tuning.search import Search
from seqedit.tuning.trials import Held
from seqedit.tuning.tunable import check_search

_LOG = logging.getLogger(__name__)

PROBE = 8
"""Facts of the first comparison at most; the others confirm."""
FURTHER = 3
"""How many layers more are tried at most where the neighbours are lost at all of the first."""
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
        failing: Why the best settings are no way to edit this model; None where they are one.
        held_out: Facts that decided and had no part in choosing layers and weights; 0 where no sequence was made.
        skipped: What of the facts' file was left out as unusable; None for nothing.
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
    failing: str | None = None
    held_out: int = 0
    skipped: Skipped | None = None


def tune(
    edited: EditedModel, records: Sequence[Record], method: str, out: Path, *, minutes: float = 15.0,
    layers: Sequence[int] | None = None, text: str | None = None, max_tokens: int = TOKENS, steps: int = 25,
    seed: int = 0, tasks: LoadedTasks | None = None, report: Callable[[str], None] = _LOG.info,
) -> Tuned:  # fmt: skip
    """Settings for a model and a method.

    Args:
        edited: The unedited model.
        records: Calibration facts, at least 8; keep them apart from those to be edited later.
        method: A closed form (emmet, memit, pmet, rome, alphaedit, evoedit).
        out: Folder of trials and target values; a search is resumed from it.
        minutes: Budget. What is expected to pass it, by what its like has taken, is not begun; the first layer is.
        layers: Layers to try; None for three depths, and more where the trend points to them.
        text: Plain text for C0 and perplexity; None for the model's default.
        max_tokens: Plain text for C0.
        steps: Optimisation steps.
        seed: Of the context templates.
        tasks: lm-eval tasks that every sequence is scored by as well.
        report: Takes a line of progress.

    Raises:
        InputError: too few facts, a method that cannot be tuned, or a folder with another search in it.
    """
    start = time.monotonic()
    check_search(records, method, minutes)
    parts, base = edited.parts, edited.base_model
    first = layers_to_try(parts, layers)
    source = text or default_text(base.name)
    settings = SecondMomentSettings(text=source, max_tokens=max_tokens)
    moments = provide_second_moments(edited, sorted({i for layer in first for i in window_of(parts, layer)}), settings)
    bench = TuneBench(edited, method, Factorizations(moments), list(TextSource(source)), out, seed, tasks)
    held = Held(out, json_digest({
        "base": base.fingerprint, "method": method, "moments": moments.digest, "steps": steps, "seed": seed,
        "facts": [r.to_dict() for r in records], "tokenizer": tokenizer_digest(edited.tokenizer),
        **({} if tasks is None else {"tasks": dict(tasks.definitions)}),
    }))  # fmt: skip
    budget = Budget(minutes - (time.monotonic() - start) / 60, held.seconds)
    few = min(PROBE, len(records) // 2)
    search = Search(bench, method, records[:few], records[few:], steps, held, budget, report)

    finished = True
    queue: list[int] = list(first)
    while queue:
        layer = queue.pop(0)
        bench.cover(window_of(parts, layer), settings)
        if not search.solve(layer, requests_of(records)):
            finished, queue = False, [layer, *queue]
            break
        if not queue and not layers and len(search.converged) < len(first) + FURTHER:
            further = next_layer(search.solved, bench.unedited(search.probe)["NS"], len(parts.layers))
            if further is not None:
                (further,) = parts.nearest_layers([further])
            if further is not None and further not in search.converged:
                report(f"the neighbours are lost at the layers tried; the trend points to layer {further}")
                queue.append(further)
    order = ranked(search.solved)
    finished = search.confirm(order) and finished
    if not finished:
        report(
            f"the budget of {minutes:g} minutes ends here: {len(queue)} of {len(queue) + len(search.converged)} layers "
            f"were not tried, {len(search.confirmed)} settings were confirmed in sequence"
        )
    final = ranked(search.confirmed) or order
    best = recommended(final, order)
    unedited = bench.unedited(search.rest if search.confirmed else search.probe)["NS"]
    return Tuned(
        method, best, tuple(order), tuple(ranked(search.confirmed)), tuple(_undecided(best, final, order)),
        tuple(search.figures), unedited, finished, search.converged, time.monotonic() - start,
        failing(best, unedited), len(search.rest) if search.confirmed else 0,
    )  # fmt: skip


def layers_to_try(parts: Anatomy, layers: Sequence[int] | None) -> tuple[int, ...]:
    """The layers a search tries: those given, or three depths.

    Raises:
        InputError: the model has no such layer.
    """
    return parts.check_layers(layers) if layers else parts.nearest_layers(candidate_layers(len(parts.layers)))


def _undecided(best: Trial, final: Sequence[Trial], order: Sequence[Trial]) -> list[Trial]:
    """Trials that cannot be told from the best one: by the last stage, or by the one before where they missed it."""
    judged_last = [dict(trial.settings) for trial in final]
    twins = [trial for trial in order if trial.settings == best.settings]
    rest = [trial for trial in order if dict(trial.settings) not in judged_last]
    return [*(t for t in final if t is not best and tied(best, t)), *(t for t in rest if twins and tied(twins[0], t))]
