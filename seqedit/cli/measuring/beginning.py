"""What ``seqedit run`` says before its first step: where it begins, and which of its files are new."""

from __future__ import annotations

from seqedit.cli.output import StepTable
from seqedit.runs.callbacks import Callback
from seqedit.runs.preparation import Prepared


class Beginning(Callback):
    """Tells the table where the run begins.

    Args:
        table: Whose stream the lines go to.
    """

    def __init__(self, table: StepTable) -> None:
        self.table = table

    def on_start(self, ready: Prepared) -> None:
        """A line for every file where only new ones are edited, and one for the branch where that is not plain."""
        for line in ready.files:
            self.table.line(line)
        start = ready.start
        if ready.batches and (len(start.history) > 1 or start.new):
            self.table.line(str(start))
