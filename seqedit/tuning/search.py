"""The stages of a search: every weight of a layer from the same target values, then the best few in sequence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from seqedit.editing.layer_figures import two_digits
from seqedit.facts.requests import Record, Request
from seqedit.tuning.bench import TuneBench
from seqedit.tuning.budget import Budget
from seqedit.tuning.choice import Trial, ranked, tied
from seqedit.tuning.guess import LayerFigures, grid, measure_layer
from seqedit.tuning.shown import line
from seqedit.tuning.trials import Held

CONFIRMED = 3
"""How many settings are confirmed in sequence; a search that made fewer is not finished."""
MORE = 6
"""How many more that the probe cannot tell from its best are, if time allows."""


TIGHT = 1.0
"""A bound on a target value's way, in hidden norms, that is tried beside the method's own where that is wider."""


class Search:
    """The stages on some facts, each trial made once.

    Args:
        bench: The model.
        method: The method.
        probe: Facts that choose layers and weights.
        rest: Facts that confirm.
        steps: Optimisation steps.
        held: Trials on disk.
        budget: What may still be begun.
        report: Takes a line of progress.

    Attributes:
        figures: What was measured of the layers.
        solved: Trials of one batch.
        confirmed: Trials in sequence.
        converged: Layer -> share of the probe's target values whose loss came below ``stop_below``.
    """

    def __init__(
        self, bench: TuneBench, method: str, probe: Sequence[Record], rest: Sequence[Record], steps: int, held: Held,
        budget: Budget, report: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.bench, self.method, self.probe, self.rest, self.steps = bench, method, probe, rest, steps
        self.held, self.budget, self.report = held, budget, report
        self.figures: list[LayerFigures] = []
        self.solved: list[Trial] = []
        self.confirmed: list[Trial] = []
        self.converged: dict[int, float] = {}

    def solve(self, layer: int, requests: Sequence[Request]) -> bool:
        """Every weight and spread at a layer from the same target values; False where the budget does not allow it."""
        bench, budget = self.bench, self.budget
        edited = bench.edited
        found = measure_layer(
            edited.model, edited.parts, edited.tokenizer, requests, bench.contexts, layer, bench.factors,
            method=self.method, steps=self.steps,
        )  # fmt: skip
        tried = grid(found, self.method, self.steps, self.bench.edited.parts.projections.layers)
        there = all(self.held.has("solved", settings) for settings in tried)
        if self.solved and not there and not budget.allows("layer"):
            return False
        self.figures.append(found)
        with budget.taking("layer"):
            with budget.taking("values"):
                config = bench.config({**tried[0], "layers": [layer], "spread": "single"})
                values, losses = bench.target_values(self.probe, config)
            self.converged[layer] = sum(loss < config.stop_below for loss in losses) / len(losses)
            self.report(f"layer {layer}: rate {found.learning_rate:g}, {self.converged[layer]:.0%} converged")
            for settings in tried:
                self.solved.append(
                    self.held.trial("solved", settings, partial(bench.solved, self.probe, settings, values))
                )
                self.report(line(self.solved[-1]))
        self.held.write()
        return True

    def confirm(self, order: Sequence[Trial]) -> bool:
        """The best few in sequence, then what cannot be told from them and variants of the best, while there is time.

        Returns:
            Whether the best few were all made.
        """
        whole = True
        best = _apart(order)
        for trial in best:
            whole = self._sequence(trial.settings) and whole
        if not whole:
            return False
        there = [dict(trial.settings) for trial in best]
        for trial in [t for t in _spread(order) if dict(t.settings) not in there][:MORE]:
            if not self._sequence(trial.settings):
                return True
        for settings in self._variants(ranked(self.confirmed)[0].settings):
            if not self._sequence(settings):
                break
        return True

    def _variants(self, best: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The best settings with one thing changed: steps as the losses ask for, a tighter bound, no protection."""
        converged = self.converged[best["layers"][-1]]
        steps = 2 * self.steps if converged < 0.5 else max(2, self.steps // 2)
        # Twice the steps go as far with half the rate, in smaller ones.
        rate = two_digits(best["learning_rate"] * self.steps / steps)
        return [
            {**best, "protect_earlier": False},
            *([{**best, "clamp_norm_factor": TIGHT}] if self.bench.config(best).clamp_norm_factor > TIGHT else []),
            {**best, "steps": steps, "learning_rate": rate},
        ]  # fmt: skip

    def _sequence(self, settings: Mapping[str, Any]) -> bool:
        # Of more facts than a layer's probe, but scored once, where a layer's are scored for every weight.
        guess = self.held.seconds["layer"] * max(1.0, len(self.rest) / len(self.probe))
        guess *= max(1.0, settings["steps"] / self.steps)
        if not self.held.has("sequence", settings) and not self.budget.allows("sequence", guess):
            return False
        half = len(self.rest) // 2
        batches = [self.rest[:half], self.rest[half:]]
        with self.budget.taking("sequence"):
            made = self.held.trial("sequence", settings, partial(self.bench.sequence, batches, settings))
        self.held.write()
        self.confirmed.append(made)
        self.report(line(made))
        return True


def _apart(order: Sequence[Trial]) -> list[Trial]:
    """The best few, at most two of the same layers: neighbours on the grid confirm little more than each other."""
    taken: list[Trial] = []
    for trial in order:
        if sum(t.settings["layers"] == trial.settings["layers"] for t in taken) < 2:
            taken.append(trial)
        if len(taken) == CONFIRMED:
            break
    return taken


def _spread(order: Sequence[Trial]) -> list[Trial]:
    """Trials that the probe cannot tell from its best: first one of each place, the best of it, then the others."""
    near = [trial for trial in order if tied(order[0], trial)]
    seen: set[tuple[int, ...]] = set()
    heads = []
    for trial in near:
        place = tuple(trial.settings["layers"])
        if place not in seen:
            seen.add(place)
            heads.append(trial)
    return [*heads, *(trial for trial in near if trial not in heads)]
