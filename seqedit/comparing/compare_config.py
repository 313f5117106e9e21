"""Configuration of a comparison: one set of facts, several methods."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evals.tasks.examples import TaskRows
from seqedit.errors import InputError
from seqedit.facts.files import fact_files
from seqedit.runs.config import ROOT, RunConfig, run_config
from seqedit.scoring.settings import EvalSettings
from seqedit.support.files import read_mapping
from seqedit.support.suggestions import did_you_mean

_OF_METHOD = ("method", "preset", "settings", "second_moments")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,59}")


@dataclass(frozen=True)
class CompareConfig:
    """A comparison.

    Attributes:
        runs: Label -> its run. All share model, facts, batches, ledger and seed; each has a branch of its own.
        evals: What is measured on the last state of every run.
        tasks: lm-eval tasks measured there.
        every_step: Whether the runs are scored after every step too.
        independent: Whether every batch is edited on the unedited model and scored on its own facts, instead of all
            batches in sequence.
        out: Folder of tables, plot and ledger.
        title: Title of the comparison.
    """

    runs: Mapping[str, RunConfig]
    evals: EvalSettings
    tasks: Mapping[str, str | TaskRows | None]
    every_step: bool
    independent: bool
    out: Path
    title: str


def read_compare_config(path: str | Path) -> CompareConfig:
    """A comparison's YAML (or JSON) file: a run's fields, and ``methods`` instead of ``method`` and ``settings``.

    Raises:
        InputError: a field is unknown, missing or does not fit; names the file, the method and the field.
    """
    data = dict(read_mapping(path))
    try:
        return compare_config(data, Path(path).parent)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def compare_config(data: Mapping[str, Any], folder: Path) -> CompareConfig:
    """A comparison from JSON types; relative paths are relative to ``folder``."""
    methods = data.get("methods")
    if not isinstance(methods, Mapping) or not methods:
        raise InputError("field 'methods' must be a mapping of labels to methods, e.g. {memit: {}, ft: {}}")
    for name in ("method", "settings", "branch"):
        if name in data:
            raise InputError(f"field '{name}' belongs to a method of 'methods', not beside it")
    if "onto" in data:
        raise InputError("field 'onto': the runs of a comparison all begin at the unedited model")
    if fact_files(data.get("facts") or "", folder, lambda path: path) is not None:
        raise InputError("field 'facts': the runs of a comparison share their batches, which are cut from one file")
    if data.get("order", "file") != "file":
        raise InputError(
            "field 'order': the runs of a comparison share their batches, which are cut in the file's order"
        )
    every_step, independent = _flag(data, "every_step"), _flag(data, "independent")
    common = {k: v for k, v in data.items() if k not in ("methods", "every_step", "independent")}
    runs: dict[str, RunConfig] = {}
    for label, given in methods.items():
        runs[str(label)] = _run(str(label), given, common, folder)
    first = next(iter(runs.values()))
    evals, tasks = first.evals, first.tasks
    if evals.generation_convention is None:  # a comparison is read beside published tables
        evals = replace(evals, generation_convention="published")
        runs = {label: replace(one, evals=evals) for label, one in runs.items()}
    if independent and (tasks or every_step or evals.generation or evals.perplexity_text is not None):
        raise InputError(
            "field 'independent': batches that are edited one by one are scored on their own facts only; leave out "
            "'tasks', 'every_step' and evals.perplexity_text, and set evals: {generation: false}"
        )
    if not every_step:
        silent = replace(evals, counterfact=False, generation=False)
        runs = {label: replace(one, evals=silent, tasks={}) for label, one in runs.items()}
    out = folder / str(data["out"])
    title = str(data.get("title", f"Methods on {Path(first.facts).name}"))
    return CompareConfig(runs, evals, tasks, every_step, independent, out, title)


def _run(label: str, given: Any, common: Mapping[str, Any], folder: Path) -> RunConfig:
    if not _LABEL.fullmatch(label):
        raise InputError(f"method label {label!r} must be letters, digits, spaces and . _ + - (at most 60)")
    own = {} if given is None else given
    if not isinstance(own, Mapping):
        raise InputError(f"method '{label}' must be a mapping, got {type(own).__name__}")
    for name in own:
        if name not in _OF_METHOD:
            hint = did_you_mean(str(name), _OF_METHOD)
            raise InputError(f"method '{label}': unknown field '{name}' (known: {', '.join(_OF_METHOD)}){hint}")
    branch = label.replace(" ", "_").replace("+", "-and-")
    data = {**common, "method": label, **own, "branch": f"compare/{branch}", "onto": ROOT, "title": label}
    if data.get("ledger") is None:
        data["ledger"] = str(Path(str(common.get("out", "."))) / "ledger")
    data["out"] = str(Path(str(common.get("out", "."))) / branch)
    if common.get("out") is None:
        raise InputError("field 'out' is missing")
    try:
        return run_config(data, folder)
    except InputError as error:
        raise InputError(f"method '{label}': {error}") from error


def _flag(data: Mapping[str, Any], name: str) -> bool:
    value = data.get(name, False)
    if not isinstance(value, bool):
        raise InputError(f"field '{name}' must be true or false, got {value!r}")
    return value
