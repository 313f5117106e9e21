"""What tune found, as a preset file with its evidence, as JSON types and as a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from seqedit.editing.preset_model import Shape
from seqedit.errors import EnvironmentFailure
from seqedit.models.edited import EditedModel
from seqedit.models.gguf import gguf_source
from seqedit.support.writing import write_whole
from seqedit.tuning.choice import Trial
from seqedit.tuning.tune import Tuned
from seqedit.version import __version__


def evidence(tuned: Tuned, edited: EditedModel) -> dict[str, Any]:
    """What speaks for the settings, as JSON types."""
    source = gguf_source(edited.model)
    return {
        "model": edited.base_model.name,
        "fingerprint": edited.base_model.fingerprint,
        **({"gguf_source": dict(source)} if source else {}),
        "seqedit": __version__,
        "seconds": round(tuned.seconds),
        "finished": tuned.finished,
        "unedited_NS": tuned.unedited,
        "confirmed_on": f"{tuned.held_out} facts that had no part in choosing layers and weights"
        if tuned.held_out
        else None,
        "failing": tuned.failing,
        **({} if tuned.skipped is None else {"skipped": tuned.skipped.to_dict()}),
        "converged": {str(layer): share for layer, share in tuned.converged.items()},
        "layers_measured": [figures.to_dict() for figures in tuned.figures],
        "best": _short(tuned.best),
        "cannot_be_told_from_it": [_short(trial) for trial in tuned.undecided],
        "trials": [_short(trial) for trial in (*tuned.confirmed, *tuned.solved)],
    }


def write_preset(path: Path, tuned: Tuned, edited: EditedModel) -> None:
    """A YAML file that ``--preset FILE`` takes.

    Raises:
        EnvironmentFailure: it cannot be written.
    """
    model = {**Shape.of(edited.parts).to_dict(), "name": edited.base_model.name,
             "fingerprint": edited.base_model.fingerprint}  # fmt: skip
    data = {
        "model": model,
        "methods": {tuned.method: dict(tuned.best.settings)},
        "evidence": {tuned.method: evidence(tuned, edited)},
    }
    plain = json.loads(json.dumps(data))  # no two places share a list, which YAML would write as an alias
    try:
        write_whole(path, yaml.safe_dump(plain, sort_keys=False, width=120))
    except OSError as error:
        raise EnvironmentFailure(f"{path} cannot be written: {error.strerror or error}") from error


def _short(trial: Trial) -> dict[str, Any]:
    shown = {name: None if v is None else round(v, 2) for name, v in trial.scores.items()}
    growth = None if trial.perplexity is None else round(trial.perplexity, 4)
    return {
        "stage": trial.stage, "facts": trial.facts, "settings": dict(trial.settings), "goal": round(trial.goal, 2),
        "scores": shown, "perplexity_by_unedited": growth,
        **({"task_changes": {name: round(change, 4) for name, change in trial.tasks.items()}} if trial.tasks else {}),
    }  # fmt: skip
