"""Callbacks of a session: told what a run would tell them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ledger import Ledger
from seqedit.runs.callbacks import Callback
from seqedit.runs.config import RunConfig
from seqedit.scoring.summary import build_summary


class Watch:
    """Tells callbacks of a session: once of its beginning and its baseline, then of every entry that is scored.

    Args:
        callbacks: Who is told.
        config: Gives the session as the configuration of a run, when the first scores are there.
    """

    def __init__(self, callbacks: Sequence[Callback], config: Callable[[], RunConfig]) -> None:
        self.callbacks = tuple(callbacks)
        self._config = config
        self._begun = False

    def begin(self) -> None:
        """Tell of the beginning, if nobody was told yet."""
        if self.callbacks and not self._begun:
            config = self._config()
            for callback in self.callbacks:
                callback.on_run_begin(config)

    def scored(self, ledger: Ledger, tip: str) -> None:
        """Tell of an entry whose scores were written; before the first one, of the unedited model."""
        if not self.callbacks:
            return
        summary = build_summary(ledger, tip)
        if not self._begun:
            self._tell("on_baseline", summary["baseline"])
        self._begun = True
        for step in summary["steps"]:
            if step["entry"] == tip:
                self._tell("on_step", step)

    def end(self, ledger: Ledger, tip: str) -> None:
        """Tell of the end, if anybody was told of the beginning."""
        if self._begun:
            self._tell("on_run_end", build_summary(ledger, tip))

    def close(self) -> None:
        """Close the callbacks, the later ones also where one fails."""
        from contextlib import ExitStack

        with ExitStack() as stack:
            for callback in reversed(self.callbacks):
                stack.callback(callback.close)

    def _tell(self, what: str, data: Mapping[str, Any]) -> None:
        for callback in self.callbacks:
            getattr(callback, what)(data)
