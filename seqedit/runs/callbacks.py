"""What a run tells whoever watches it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from seqedit.runs.config import RunConfig
from seqedit.scoring.summary_types import RunSummary, StepSummary

if TYPE_CHECKING:
    from seqedit.runs.preparation import Prepared


class Callback:
    """What a run tells while it goes on; subclass it and override what you need."""

    def on_start(self, ready: Prepared) -> None:
        """The inputs are checked: where the run begins, and what it will do; no ledger was made yet."""

    def on_run_begin(self, config: RunConfig) -> None:
        """The inputs are checked and the ledger is open; nothing was measured yet."""

    def on_baseline(self, baseline: dict[str, Any]) -> None:
        """The unedited model was scored (the summary's ``baseline``)."""

    def on_step(self, step: StepSummary) -> None:
        """An entry was made and scored (its part of the summary's ``steps``)."""

    def on_run_end(self, summary: RunSummary) -> None:
        """The run ended, be it by a gate; not called where it failed."""

    def close(self) -> None:
        """Called last, also where the run failed."""


class Told(Callback):
    """A callback from two functions."""

    def __init__(
        self,
        on_baseline: Callable[[dict[str, Any]], None] | None = None,
        on_step: Callable[[StepSummary], None] | None = None,
    ) -> None:
        self._baseline, self._step = on_baseline, on_step

    def on_baseline(self, baseline: dict[str, Any]) -> None:
        """Hand on."""
        if self._baseline is not None:
            self._baseline(baseline)

    def on_step(self, step: StepSummary) -> None:
        """Hand on."""
        if self._step is not None:
            self._step(step)
