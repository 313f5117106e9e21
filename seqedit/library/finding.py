"""Settings for a session's model, looked for on calibration facts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from seqedit.library.inputs import facts_read
from seqedit.library.taking import Taking
from seqedit.text.framing import Framing

if TYPE_CHECKING:
    from seqedit.library.inputs import Facts, Tasks
    from seqedit.tuning.tune import Tuned

_LOG = logging.getLogger(__name__)


class Finding(Taking):
    """A session that looks for settings."""

    def tune(
        self,
        records: Facts,
        method: str = "emmet",
        *,
        out: str | Path = "tuned",
        minutes: float = 15.0,
        limit: int | None = 32,
        layers: Sequence[int] | None = None,
        text: str | None = None,
        max_tokens: int = 20_000,
        steps: int = 25,
        tasks: Tasks | None = None,
        skip_unusable: bool = False,
        join: str | None = None,
        chat_template: bool = False,
        report: Callable[[str], None] = _LOG.info,
    ) -> Tuned:
        """Find settings on the unedited model, and write them as ``out``/preset.yaml with their evidence.

        Args:
            records: Calibration facts, at least 8; keep them apart from those to be edited.
            method: A closed form: ``emmet``, ``memit``, ``pmet``, ``rome``, ``alphaedit`` or ``evoedit``.
            out: Folder of preset.yaml, tune.png and trials; a search is resumed from it.
            minutes: Budget.
            limit: Take only the first facts.
            layers: Layers to try; None for three depths, and more where the trend points to them.
            text: Plain text for second moments and perplexity; None for the model's default.
            max_tokens: Sample size for second moments, in tokens.
            steps: Optimisation steps.
            tasks: lm-eval tasks that settings are also scored by, by name or with a local file of documents each.
            skip_unusable: Leave out records that cannot be used, and say which and why.
            join, chat_template: As for `edit`.
            report: Takes a line of progress.

        Returns:
            What was found; ``edit(..., preset=f"{out}/preset.yaml")`` takes it. Its ``failing`` says why, where not
            even the best is good enough.

        Raises:
            InputError: too few facts, a method that cannot be tuned, or a folder with another search in it.
        """
        from seqedit.library.inputs import tasks_of
        from seqedit.tuning.plot import write_plot
        from seqedit.tuning.preset import write_preset
        from seqedit.tuning.tune import tune

        read, folder = facts_read(records, limit=limit, skip_unusable=skip_unusable), Path(out)
        facts = Framing(join, chat_template).of(read.records, lambda: self.edited.tokenizer)
        with self.edited.unedited():
            found = tune(
                self.edited, facts, method, folder, minutes=minutes, layers=layers, text=text, max_tokens=max_tokens,
                steps=steps, seed=self.editor.seed, tasks=tasks_of(tasks), report=report,
            )  # fmt: skip
            found = replace(found, skipped=read.skipped)
            write_preset(folder / "preset.yaml", found, self.edited)
            write_plot(folder / "tune.png", found)
        if found.failing is not None:
            _LOG.warning("by these facts the model cannot be edited so: %s", found.failing)
        return found
