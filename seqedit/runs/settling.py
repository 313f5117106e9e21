"""Settings that a run's configuration leaves open: those of the model, or those that the run began with."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ledger import Entry, Ledger
from seqedit.editing.editor import Editor
from seqedit.editing.recorded import completed
from seqedit.editing.rule import Recorded, Settled, settle
from seqedit.editing.settings import Given
from seqedit.models.edited import EditedModel
from seqedit.runs.config import RunConfig
from seqedit.runs.config import settings_of as settings_of
from seqedit.support.digests import json_digest

_LOG = logging.getLogger(__name__)

OnSettled = Callable[[Settled], None]


@dataclass(frozen=True)
class SettledRun:
    """A run with all its settings.

    Attributes:
        config: The run.
        noted: What the adapters of its batches record of where settings came from.
        noted_retry: The same of a retry by a method of its own; None where it has none.
    """

    config: RunConfig
    noted: Mapping[str, Any] = field(default_factory=dict)
    noted_retry: Mapping[str, Any] | None = None


def log_settled(settled: Settled) -> None:
    """Where settings came from, into the log."""
    for line in settled.notes:
        _LOG.info("%s", line)
    for line in settled.warnings:
        _LOG.warning("%s", line)


def settle_run(config: RunConfig, editor: Editor, done: Sequence[Entry], told: OnSettled = log_settled) -> SettledRun:
    """Fill in what a run's settings leave open (`seqedit.editing.rule.settle`); nothing is written to its ledger.

    Args:
        config: The run.
        editor: The model and its second moments.
        done: What the run has done already, oldest first, where it goes on: those settings then count.
        told: Called where something was filled in.
    """
    retry = config.on_gate
    if not isinstance(config.settings, Given) and not isinstance(retry.settings, Given):
        return SettledRun(config, noted_retry=None if retry.settings is None else {})
    recorded = _recorded(config, editor.edited, done) if done else []
    settled = settle(config.settings, editor, recorded)
    if isinstance(config.settings, Given):
        told(settled)
    other = None if retry.settings is None else settle(retry.settings, editor, recorded)
    if other is not None and isinstance(retry.settings, Given):
        told(other)
        retry = replace(retry, settings=other.config)
    whole = replace(config, settings=settled.config, on_gate=retry)
    return SettledRun(whole, settled.provenance(), None if other is None else other.provenance())


def _recorded(config: RunConfig, edited: EditedModel, done: Sequence[Entry]) -> list[Recorded]:
    """The settings that a run's batches were edited with, the oldest first."""
    edits = [entry for entry in done if entry.operation == "edit"]
    first = {json_digest(dict(entry.method)): entry for entry in reversed(edits)}
    with Ledger.open(config.ledger, edited.base_model) as ledger:
        return [
            Recorded(completed(entry.method), ledger.adapter(entry).provenance)
            for entry in edits
            if first[json_digest(dict(entry.method))] is entry
        ]
