"""Everything that seqedit asks of the processes that work with it."""

from __future__ import annotations

from collections.abc import Mapping

from seqedit.moments import split as split_moments
from seqedit.parallel.ranks import Job
from seqedit.scoring import split as split_scoring
from seqedit.targets import split as split_editing

JOBS: Mapping[str, Job] = {**split_editing.JOBS, **split_moments.JOBS, **split_scoring.JOBS}
"""Name -> job, for `Ranks`."""
