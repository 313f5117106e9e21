"""What a shell offers where a name is taken: read from the ledger and from tables, never from a model.

A parameter is completed by what it is called, so that every verb that takes a revision, a method or a preset has it.
A shell asks while somebody types: whatever goes wrong here is no more than nothing to offer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

SHORT = 12
"""Digits of an entry's id that are offered, as many as `seqedit log` shows."""


def attach(command: Any) -> None:
    """Let a verb's parameters offer what they take."""
    for parameter in command.params:
        names = OFFERED.get((command.name, parameter.name)) or OFFERED.get(("", parameter.name))
        if names is not None:
            parameter._custom_shell_complete = _completer(names)


def _completer(names: Callable[[Any], Iterable[str]]) -> Callable[[Any, Any, str], list[str]]:
    def complete(context: Any, parameter: Any, incomplete: str) -> list[str]:
        try:
            given = context.params.get(parameter.name)
            used = set(given) if isinstance(given, list | tuple) else set()
            return [name for name in dict.fromkeys(names(context)) if name.startswith(incomplete) and name not in used]
        except Exception:  # no ledger here, a damaged one, a database that does not answer
            return []

    return complete


def _ledger(context: Any) -> Any:
    from seqedit.cli.output import open_ledger

    return open_ledger(context.params.get("ledger"))


def branches(context: Any) -> list[str]:
    """Names of the ledger's branches."""
    with _ledger(context) as opened:
        return list(opened.branches())


def entries(context: Any) -> list[str]:
    """Entries of the current branch, newest first, as their short ids."""
    with _ledger(context) as opened:
        return [entry.id[:SHORT] for entry in opened.log()]


def revisions(context: Any) -> list[str]:
    """HEAD, the branches, and the entries of the current one."""
    return ["HEAD", *branches(context), *entries(context)]


def methods(context: Any) -> list[str]:
    """Names of the editing methods."""
    from seqedit.methods import method_names

    return method_names()


def tuned(context: Any) -> list[str]:
    """Methods that can be tuned."""
    from seqedit.tuning.tunable import tunable

    return tunable()


def presets(context: Any) -> list[str]:
    """Names of the shipped presets."""
    from seqedit.editing.settings import BY_RULE, preset_names

    return [*preset_names(), BY_RULE]


def models(context: Any) -> tuple[str, ...]:
    """Names of the shipped models."""
    from seqedit.models.names import DEMO_MODELS

    return DEMO_MODELS


def dtypes(context: Any) -> tuple[str, ...]:
    """Weight types."""
    from seqedit.models.names import DTYPES

    return DTYPES


def devices(context: Any) -> tuple[str, ...]:
    """Devices that are usual."""
    from seqedit.models.names import DEVICE_MAPS

    return ("cpu", "cuda", "mps", *DEVICE_MAPS)


def metrics(context: Any) -> list[str]:
    """Scores of facts, ppl, and the metrics of tasks that the ledger has outcomes of or that ship with the package."""
    from evals.scores.scores import METRICS
    from evals.tasks.library import shipped_tasks

    found = [*METRICS, "ppl", *(f"{t.name}.{metric}" for t in shipped_tasks().values() for metric in t.metrics)]
    try:
        with _ledger(context) as opened:
            from seqedit.scoring.kinds import KIND_TASKS

            kept = [opened.scores(entry.id, KIND_TASKS).get(KIND_TASKS, {}) for entry in opened.log()]
            scored = [task for of_entry in kept for task in of_entry.items()]
    except Exception:  # without a ledger there are the scores that need none
        return found
    of_tasks = [
        f"{name}.{metric}"
        for name, values in scored
        for metric, value in values.items()
        if isinstance(value, int | float) and metric not in ("change", "ci_low", "ci_high")
    ]
    return [*found, *of_tasks]


def gate_metrics(context: Any) -> list[str]:
    """What a gate may look at."""
    from evals.gate_rules import DRIFT
    from evals.scores.probes import MAIN_COLUMNS
    from evals.scores.scores import METRICS

    of_earlier = (f"earlier.{name}" for name in (*METRICS, *MAIN_COLUMNS))
    return [*metrics(context), *MAIN_COLUMNS, *of_earlier, *(f"drift.{name}" for name in DRIFT)]


def tasks(context: Any) -> list[str]:
    """Tasks that ship with the package, and GLUE's that the demo world has rows of."""
    from evals.tasks.library import shipped_tasks
    from seqedit.demo import TASKS

    return [*shipped_tasks(), *TASKS]


def settings(context: Any) -> list[str]:
    """Fields of the chosen method, as far as it is known; with ``=``."""
    from dataclasses import fields

    from seqedit.methods import get_method

    return [f"{field.name}=" for field in fields(get_method(str(context.params.get("method"))).config)]


def _words(*words: str) -> Callable[[Any], tuple[str, ...]]:
    return lambda context: words


OFFERED: Mapping[tuple[str, str], Callable[[Any], Iterable[str]]] = {
    **dict.fromkeys([("", name) for name in ("rev", "revs", "onto", "old", "new", "good", "bad")], revisions),
    **dict.fromkeys([("", name) for name in ("entry", "entries")], revisions),
    ("export", "entry"): _words(),
    ("", "branch"): branches,
    ("", "name"): branches,
    ("", "method"): methods,
    ("tune", "method"): tuned,
    ("", "preset"): presets,
    ("", "model"): models,
    ("", "dtype"): dtypes,
    ("", "device"): devices,
    ("", "metric"): metrics,
    ("", "gate"): gate_metrics,
    ("", "task"): tasks,
    ("", "set_"): settings,
    ("", "spread"): _words("single", "even", "sqrt", "boundary", "replay"),
    ("", "order"): _words("file", "clustered"),
    ("", "how"): _words("sum", "solve", "ties", "dare"),
    ("", "zsre"): _words("mend", "alt", "memit", "answers"),
    ("", "log_to"): _words("tensorboard", "wandb", "trackio"),
    ("benchmark", "name"): _words("mquake", "ripple", "real-life"),
}
"""Verb (empty: every verb) and parameter -> the names that it offers."""
