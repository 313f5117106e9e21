"""Callbacks of a run, and those that send its numbers to TensorBoard, Weights & Biases or trackio.

A callback that raises ends the run, as any error does; finished entries are in the ledger and the run resumes. A
resumed run tells its callbacks every step from the first on, so each trial of a run is complete where it is logged.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from seqedit.distribution.plugins import TRACKERS, plugins
from seqedit.errors import EnvironmentFailure, InputError
from seqedit.runs.callbacks import Callback
from seqedit.runs.config import RunConfig, settings_of
from seqedit.scoring.summary_types import StepSummary
from seqedit.support.suggestions import did_you_mean


def step_metrics(step: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a step under flat names.

    ``new/ES`` of its batch, ``earlier/ES`` of all earlier edits, ``tasks/cola/mcc`` and ``tasks/cola/change``,
    ``drift/weight_norm``, ``seconds/edit``, ``gates/tripped`` (count). What was not measured is left out.
    """
    found = {f"new/{name}": value for name, value in step.items() if name not in _NOT_SCORES}
    found |= {f"earlier/{name}": value for name, value in (step.get("earlier") or {}).items()}
    for task, row in (step.get("tasks") or {}).items():
        found |= {f"tasks/{task}/{name}": value for name, value in row.items()}
    found |= {f"drift/{name}": value for name, value in (step.get("drift") or {}).items()}
    found |= {f"seconds/{name}": value for name, value in (step.get("timings") or {}).items()}
    if step.get("gates"):
        found["gates/tripped"] = sum(1 for gate in step["gates"] if gate["tripped"])
    return _numbers(found)


_NOT_SCORES = ("step", "active")


def baseline_metrics(baseline: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of the unedited model, under the names that steps use."""
    found: dict[str, Any] = {}
    for name, values in baseline.items():
        prefix = "new" if name == "counterfact" else f"tasks/{name}"
        found |= {f"{prefix}/{metric}": value for metric, value in values.items()}
    return _numbers(found)


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {k: float(v) for k, v in values.items() if isinstance(v, int | float) and not isinstance(v, bool)}


class TensorBoardSink(Callback):
    """Scalars for TensorBoard; an earlier trial of the same run in the folder is superseded.

    Args:
        folder: Where the event files go; None for ``tensorboard`` in the run's output.

    Raises:
        InputError: TensorBoard is not installed.
    """

    def __init__(self, folder: str | None = None) -> None:
        _need("tensorboard", "tensorboard")
        self.folder = folder
        self._writer: Any = None

    def on_run_begin(self, config: RunConfig) -> None:
        """Open the event file."""
        from torch.utils.tensorboard import SummaryWriter

        folder = Path(self.folder) if self.folder is not None else config.out / "tensorboard"
        try:
            self._writer = SummaryWriter(str(folder), purge_step=0)
        except OSError as error:
            raise EnvironmentFailure(f"TensorBoard events cannot be written to {folder}: {error}") from error

    def on_baseline(self, baseline: dict[str, Any]) -> None:
        """Step 0."""
        self._add(baseline_metrics(baseline), 0)

    def on_step(self, step: StepSummary) -> None:
        """One point of every curve, and the entry as text."""
        self._add(step_metrics(step), step["step"])
        text = f"{step['operation']} {step['entry']}: {step['message']}"
        self._writer.add_text("entry", text, step["step"])
        self._writer.flush()

    def _add(self, metrics: Mapping[str, float], step: int) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()


class TrackerSink(Callback):
    """Weights & Biases, or trackio, which has the same functions. Where and whether they send is theirs to configure
    (``WANDB_MODE=offline``, ``TRACKIO_DIR``).

    Args:
        name: ``wandb`` or ``trackio``.
        project: Project to log to.

    Raises:
        InputError: the library is not installed.
    """

    def __init__(self, name: str, project: str = "seqedit") -> None:
        self.name, self.project = name, project
        self._library: Any = _need(name, name)
        self._open = False

    def on_run_begin(self, config: RunConfig) -> None:
        """Open a run of the tracker."""
        about = {"model": config.model, "method": config.method, "batch_size": config.batch_size,
                 "facts": config.facts, "seed": config.seed,
                 "settings": settings_of(config.settings).to_dict()}  # fmt: skip
        where: dict[str, Any] = {}
        if self.name == "wandb":
            config.out.mkdir(parents=True, exist_ok=True)
            where = {"dir": str(config.out)}
        with self._speaking():
            self._library.init(project=self.project, config=about, **where)
        self._open = True

    def on_baseline(self, baseline: dict[str, Any]) -> None:
        """Step 0."""
        self._log(baseline_metrics(baseline), 0)

    def on_step(self, step: StepSummary) -> None:
        """One point of every curve."""
        self._log(step_metrics(step), step["step"])

    def _log(self, metrics: dict[str, float], step: int) -> None:
        with self._speaking():
            self._library.log(metrics, step=step)

    def close(self) -> None:
        """End the tracker's run."""
        if self._open:
            self._open = False
            with self._speaking():
                self._library.finish()

    @contextlib.contextmanager
    def _speaking(self) -> Iterator[None]:
        """The tracker's messages go to stderr (stdout is for data), its errors say whose they are."""
        with contextlib.redirect_stdout(sys.stderr):
            try:
                yield
            except Exception as error:
                raise EnvironmentFailure(f"{self.name} failed: {error}") from error


_TRACKERS: dict[str, Callable[[str | None], Callback]] = {
    "tensorboard": TensorBoardSink,
    "wandb": lambda project: TrackerSink("wandb", project or "seqedit"),
    "trackio": lambda project: TrackerSink("trackio", project or "seqedit"),
}
"""Name -> what makes a tracker of the text after the colon. Other distributions add theirs as `seqedit.trackers`."""
SINKS = tuple(_TRACKERS)


def make_sinks(wanted: Sequence[str]) -> list[Callback]:
    """Sinks from ``NAME`` or ``NAME:PROJECT`` (for tensorboard ``NAME:FOLDER``).

    Raises:
        InputError: an unknown name, or a library that is not installed; says how to install it.
    """
    sinks: list[Callback] = []
    for text in wanted:
        name, _, place = text.partition(":")
        known = _TRACKERS if name in _TRACKERS else {**plugins(TRACKERS), **_TRACKERS}
        if name not in known:
            raise InputError(
                f"unknown sink '{text}' (known: {', '.join(known)}; each may be followed by :PROJECT)"
                f"{did_you_mean(name, known)}"
            )
        sinks.append(known[name](place or None))
    return sinks


def _need(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(f'{extra} is not installed ({error}); pip install "seqedit[{extra}]"') from error
