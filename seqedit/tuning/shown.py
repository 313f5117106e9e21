"""Trials for a person: a line each, and the table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from seqedit.tuning.choice import Trial, weight_of

if TYPE_CHECKING:
    from seqedit.tuning.tune import Tuned


def line(trial: Trial) -> str:
    """A trial on one line."""
    shown = "  ".join(f"{n} {'-' if v is None else format(v, '.1f')}" for n, v in trial.scores.items())
    growth = "" if trial.perplexity is None else f"  perplexity x{trial.perplexity:.3f}"
    where = ",".join(map(str, trial.settings["layers"]))
    more = "".join(f"  {name} {change:+.3f}" for name, change in trial.tasks.items())
    return f"{trial.stage:8}  layers {where:9}  {told(trial.settings):15}  goal {trial.goal:.1f}  {shown}{growth}{more}"


def told(settings: Mapping[str, Any]) -> str:
    """What a trial's settings are, beside its layers: its weight, and where it departs from the grid."""
    weight = weight_of(settings)
    parts = ["no weight" if weight is None else f"weight {weight:g}"]
    if not settings.get("protect_earlier", True):
        parts.append("unprotected")
    if "clamp_norm_factor" in settings:
        parts.append(f"clamp {settings['clamp_norm_factor']:g}")
    parts.append(f"rate {settings['learning_rate']:g}, {settings['steps']} steps")
    return ", ".join(parts)


def table(tuned: Tuned) -> list[str]:
    """Lines for a person: the trials, best first, those that cannot be told apart marked."""
    mark = {id(trial): "=" for trial in tuned.undecided} | {id(tuned.best): "*"}
    rows = [f"{mark.get(id(trial), ' ')} {line(trial)}" for trial in (*tuned.confirmed, *tuned.solved)]
    ns = "-" if tuned.unedited is None else f"{tuned.unedited:.1f}"
    rows.append(f"* recommended; = cannot be told from it by these facts (95% interval); unedited NS {ns}")
    if tuned.held_out:
        rows.append(f"sequences are of {tuned.held_out} facts that had no part in choosing layers and weights")
    if tuned.failing is not None:
        rows.append(f"by these facts the model cannot be edited so: {tuned.failing}")
    if not tuned.finished:
        rows.append("the time was over before all trials were made; the same command with the same --out goes on")
    return rows
