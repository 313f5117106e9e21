"""Old import paths, which keep working with a DeprecationWarning: moved modules, and names of what are packages now.

``MODULES`` is what README, the docs and task files ever showed; a finder at the end of ``sys.meta_path`` gives the new
module under the old name. Where the old name is that of a package now, the package asks `moved_names`.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import CodeType, ModuleType
from typing import Any

MODULES = {
    "evals.counterfact_sampling": "evals.scores.survey",
    "evals.fact_tasks": "evals.tasks.facts",
    "evals.paired_scores": "evals.scores.paired",
    "evals.sequential": "evals.statistics.sequential",
    "evals.task_aggregation": "evals.tasks.aggregation",
    "seqedit.benchmarks": "seqedit.runs.case_sets",
    "seqedit.demo.check": "seqedit.demo_training.check",
    "seqedit.demo.train": "seqedit.demo_training.train",
    "seqedit.demo_files": "seqedit.demo.location",
    "seqedit.edited_model": "seqedit.models.edited",
    "seqedit.fact_sets": "seqedit.facts.arrow",
    "seqedit.lm_documents": "seqedit.facts.lm_eval",
    "seqedit.moment_store": "seqedit.moments.store",
    "seqedit.rank_jobs": "seqedit.cli.parallel",
    "seqedit.rank_place": "seqedit.parallel.place",
    "seqedit.ranks": "seqedit.parallel.ranks",
    "seqedit.runner": "seqedit.runs.runner",
    "seqedit.sinks": "seqedit.runs.trackers",
    "seqedit.split_scoring": "seqedit.scoring.split",
}
"""Old module -> where its content is."""

NAMES = {
    "evals.report": {"write_report": "evals.report.report"},
    "evals.scores": {"Scores": "evals.scores.scores"},
    "evals.statistics": {
        "Change": "evals.statistics.changes",
        "mcnemar": "evals.statistics.exchange",
        "paired_change": "evals.statistics.changes",
        "score_intervals": "evals.scores.intervals",
        "wilson": "evals.statistics.stratified",
        "task_changes": "evals.statistics.changes",
    },
    "evals.tasks": {"evaluate_tasks": "evals.tasks.tasks", "load_tasks": "evals.tasks.tasks"},
    "seqedit.adapters": {"Adapter": "seqedit.adapters.adapter", "BaseModel": "seqedit.adapters.adapter"},
    "seqedit.editing": {"compute_adapter": "seqedit.editing.compute"},
    "seqedit.models": {"load_model": "seqedit.models.loading", "resolve_model": "seqedit.models.loading"},
    "seqedit.session": {"Session": "seqedit.session.session"},
}
"""Package that was a module -> name it had -> module that has it."""


def moved_names(package: str) -> Callable[[str], Any]:
    """A ``__getattr__`` for a package that was a module."""

    def get(name: str) -> Any:
        home = NAMES[package].get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        _warn(f"{package}.{name}", f"{home}.{name}", stacklevel=3)
        return getattr(importlib.import_module(home), name)

    return get


def install() -> None:
    """Let old module names be found, after all others; more than once changes nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in MODULES:
            return None
        new = find_spec(MODULES[fullname])
        return ModuleSpec(fullname, _Alias(MODULES[fullname]), origin=None if new is None else new.origin)


class _Alias(InspectLoader):
    """Gives another module under an old name."""

    def __init__(self, new: str) -> None:
        self.new = new

    def exec_module(self, module: ModuleType) -> None:
        _warn(module.__name__, self.new, stacklevel=3)
        sys.modules[module.__name__] = importlib.import_module(self.new)  # import takes what stands there afterwards

    def get_code(self, fullname: str) -> CodeType | None:
        """For ``python -m``."""
        _warn(fullname, self.new, stacklevel=3)
        spec = find_spec(self.new)
        return spec.loader.get_code(self.new) if spec and isinstance(spec.loader, InspectLoader) else None

    def get_source(self, fullname: str) -> str | None:
        """The new module's."""
        spec = find_spec(self.new)
        return spec.loader.get_source(self.new) if spec and isinstance(spec.loader, InspectLoader) else None


def _warn(old: str, new: str, stacklevel: int) -> None:
    warnings.warn(f"{old} has moved to {new}; the old name will go", DeprecationWarning, stacklevel=stacklevel)
